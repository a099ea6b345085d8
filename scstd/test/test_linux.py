# SPDX-License-Identifier: MIT
"""
Linux's own initiator in short; ``make linux-initiator`` has all of it.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from scstd.test.clients import LINUX, need
from scstd.test.linux_initiator import PROGRAMS, restarts
from scstd.test.linux_stage import Stage, started


class LinuxTests(TestCase):
    """
    A Linux kernel under QEMU, with open-iscsi.
    """

    timeout = 300

    def test_restart(self) -> None:
        """
        An ext4, with both digests, over a killed and restarted target: no error, and
        every file as it was written.
        """
        need(*PROGRAMS, *LINUX)
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        # What was said there stays in trial's directory; the path of a socket may not
        # be long.
        with (
            (directory / "log").open("w", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            tempfile.TemporaryDirectory() as short,
            started(directory) as guest,
        ):
            restarts(guest, Path(short), (Stage.kill,), 5)
