# SPDX-License-Identifier: MIT
"""
The tests that `scstd.test.pitfalls` names are there.
"""

from __future__ import annotations

from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase

from scstd.test.pitfalls import PITFALLS


class TableTests(SynchronousTestCase):
    """
    What the table says.
    """

    def test_tests_exist(self) -> None:
        """Each line names classes of tests, or tests; all exist and test something."""
        for line in PITFALLS.splitlines():
            _place, pitfall, shown = line.split("|")
            if shown.startswith("- "):
                continue
            self.assertTrue(shown.split(), pitfall)
            for name in shown.split():
                module, kind, *test = name.split(".")
                found = getattr(import_module(f"scstd.test.{module}"), kind)
                names = test or [one for one in dir(found) if one.startswith("test")]
                self.assertTrue(names, name)
                for one in names:
                    self.assertTrue(callable(getattr(found, one)), name)

    def test_each_once(self) -> None:
        """No pitfall is there twice."""
        named = [line.split("|")[1] for line in PITFALLS.splitlines()]
        self.assertEqual(len(named), len(set(named)))
