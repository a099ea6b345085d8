# SPDX-License-Identifier: MIT
"""
Tests with what people who come from SCST do: many mistakes in one file, devices that are
away.  What SCST's files have and we do not is in `scstd.test.test_foreign`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.management.config.reading import read
from scstd.management.grammar.scstconf import Mistakes
from scstd.management.model.configuration import device
from scstd.results import settled


class DeviceTests(TestCase):
    """
    Block devices.
    """

    async def test_blockio(self) -> None:
        """No file takes the place of a device that is away."""
        path = "/dev/no-such-device-of-scstd"
        self.addCleanup(Path(path).unlink, missing_ok=True)
        for name in ("vdisk_blockio", "vdisk_fileio"):
            made = device("d", name, [("filename", path), ("size", "1M")])
            opens: Any = made.handler.open
            with self.assertRaises(ConfigurationError) as caught:
                await settled(opens(reactor, "d", made.values))
            self.assertEqual(str(caught.exception), f"{path} does not exist")
            self.assertFalse(Path(path).exists())


MISTAKEN = """\
HANDLER vdisk_nullio {
    DEVICE d {
        blocksize 513
    }
    DEVICE d {
        rotationl 0
    }
}
TARGET_DRIVER iscsi {
    TARGET iqn.BAD {
        IncomingUser "joe short-secr"
        LUN zero nothing
        LUN 1 d {
            read_only maybe
        }
        GROUP mgmt {
            INITIATOR
        }
    }
}
DEVICE_GROUP mgmt {
    DEVICE nothing
    TARGET_GROUP g {
        state asleep
    }
}
foo bar
"""


class MistakesTests(SynchronousTestCase):
    """
    Many mistakes in one file.
    """

    def test_all(self) -> None:
        """Also what is in a block whose own name is wrong is read, and all is told."""
        error = self.assertRaises(Mistakes, read, MISTAKEN, "bad.conf")
        told = [
            re.match(r"bad\.conf:(\d+):\d+: '?\"?([^'\"]*)", str(one)).groups()  # type: ignore[union-attr]
            for one in error.all
        ]
        self.assertEqual(
            told,
            [
                ("3", "513"),
                ("5", "d"),
                ("6", "rotationl"),
                ("10", "iqn.BAD"),
                ("11", "IncomingUser"),
                ("12", "zero"),
                ("12", "nothing"),
                ("14", "maybe"),
                ("16", "mgmt"),
                ("17", "INITIATOR"),
                ("21", "mgmt"),
                ("22", "nothing"),
                ("24", "asleep"),
                ("27", "foo"),
            ],
        )
        self.assertNotIn("short-secr", str(error))
