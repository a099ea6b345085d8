# SPDX-License-Identifier: MIT
"""
Tests for what the tools have in common: pairs, tables, output, the table of commands.
"""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from scstd.management.cli import tools
from scstd.management.cli.scstadmin import parser
from scstd.management.cli.scstadmin_commands import ACTIONS
from scstd.management.cli.tools import pairs, table
from scstd.test.serving import PATIENCE


class ToolTests(SynchronousTestCase):
    """
    What the tools are made of.
    """

    def test_pairs(self) -> None:
        """Values may have commas."""
        self.assertEqual(
            pairs("a=1,HeaderDigest=CRC32C,None,b="),
            [("a", "1"), ("HeaderDigest", "CRC32C,None"), ("b", "")],
        )
        self.assertRaises(ValueError, pairs, "a")
        self.assertEqual(
            pairs("filename=/a,b,read_only,nv_cache,usn=1,removable"),
            [
                ("filename", "/a,b"),
                ("read_only", "1"),
                ("nv_cache", "1"),
                ("usn", "1"),
                ("removable", "1"),
            ],
        )
        self.assertEqual(pairs("read_only"), [("read_only", "1")])

    def test_table(self) -> None:
        """Columns are as wide as what is in them."""
        self.assertEqual(
            table(["a", "long"], [["xyz", 1]]), "a    long\n---  ----\nxyz  1"
        )

    def test_output(self) -> None:
        """Output that nobody reads ends a tool as SIGPIPE would; a full disk is told."""
        command = "from scstd.management.cli.scstadmin import entry; entry()"
        reading, writing = os.pipe()
        os.close(reading)
        for output, status, said in (
            (writing, tools.UNREAD, ""),
            (os.open("/dev/full", os.O_WRONLY), tools.REFUSED, "No space left"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", command, "-convert_config", "/dev/null"],
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            os.close(output)
            self.assertEqual(done.returncode, status)
            self.assertIn(said, done.stderr)
            self.assertLessEqual(len(done.stderr.splitlines()), 1)

    def test_actions(self) -> None:
        """Each command has its option, and says what it needs."""
        text = parser().format_help()
        for action in ACTIONS:
            self.assertIn(f"-{action.option}", text)
            self.assertTrue(action.verb or action.text or action.attributes)
        needs = {action.option: action.needs for action in ACTIONS}
        self.assertEqual(needs["add_lun"], ["driver", "target", "device"])
        self.assertEqual(needs["move_init"], ["driver", "target", "group", "to"])
