# SPDX-License-Identifier: MIT
"""
What the command-line tools say of a service that hangs up on them, as one does that has
no descriptors left: one line, and status 3.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from scstd.test.serving import PATIENCE

TOOLS = {
    "scstadmin": ("-list_sessions", "-socket"),
    "adm": ("--op", "show", "--socket"),
}
"""Modules of tools, and what they are asked."""


class HungUpTests(SynchronousTestCase):
    """
    A socket that closes what it has accepted.
    """

    def setUp(self) -> None:
        """Listen."""
        self.path = Path(self.mktemp())
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(self.path))
        self.listening.listen()
        self.addCleanup(self.listening.close)

    def hang_up(self) -> None:
        """Take a client, and let it go."""
        self.listening.settimeout(PATIENCE)
        self.listening.accept()[0].close()

    def test_one_line(self) -> None:
        """Each tool says so in a line, and ends with the status for no service."""
        for name, words in TOOLS.items():
            hanging_up = threading.Thread(target=self.hang_up)
            hanging_up.start()
            tool = f"from scstd.management.cli.{name} import entry; entry()"
            done = subprocess.run(
                [sys.executable, "-c", tool, *words, str(self.path.absolute())],
                check=False,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            hanging_up.join(PATIENCE)
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertEqual(done.stdout, "")
            (line,) = done.stderr.splitlines()
            self.assertIn("hung up", line)
