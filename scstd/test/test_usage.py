# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.cli.usage`: command lines that make no sense.
"""

from __future__ import annotations

import contextlib
import io

from twisted.trial.unittest import SynchronousTestCase

from scstd import daemon
from scstd.management.cli import adm


class UsageTests(SynchronousTestCase):
    """
    The tools with many options.
    """

    def test_one_line(self) -> None:
        """What is wrong is one line, with what was meant, and the status is 2."""
        for made, words, why in (
            (daemon.parser, "--confg x", "(did you mean --config?)"),
            (daemon.parser, "--port many", "argument -p/--port: invalid int value"),
            (adm.parser, "--op show --tidd 1", "(did you mean --tid?)"),
            (adm.parser, "--op bogus", "invalid choice: 'bogus'"),
            (adm.parser, "", "required: --op; -h lists the options"),
        ):
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                ended = self.assertRaises(SystemExit, made().parse_args, words.split())
            self.assertEqual(ended.code, 2)
            self.assertEqual(said.getvalue().count("\n"), 1, said.getvalue())
            self.assertIn(why, said.getvalue())
