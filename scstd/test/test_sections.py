# SPDX-License-Identifier: MIT
"""
The tests that `scstd.test.sections` names are there.
"""

from __future__ import annotations

from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase

from scstd.test.sections import SECTIONS, TASK_MODEL


class SectionTests(SynchronousTestCase):
    """
    What doc/conformance.md says of the RFCs and of SAM-5.
    """

    def test_tests_exist(self) -> None:
        """Each section names tests, and all of them exist."""
        for line in (*SECTIONS.splitlines(), *TASK_MODEL.splitlines()):
            *_number, title, _state, shown = line.split("|")
            self.assertTrue(shown.split(), title)
            for name in shown.split():
                module, *rest = name.split(".")
                found = import_module(f"scstd.test.{module}")
                for part in rest:
                    found = getattr(found, part)
                self.assertIsNotNone(found, name)
