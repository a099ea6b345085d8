# SPDX-License-Identifier: MIT
"""
Some seeds of `scstd.test.storm`, which runs by itself for as long as one likes; and what
it would find.
"""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from scstd.management.ports.lun_maps import Maps
from scstd.scsi.unit import LogicalUnit
from scstd.test.storm import run

SEEDS = 6


class StormTests(SynchronousTestCase):
    """
    Everything at once.
    """

    def test_seeds(self) -> None:
        """The first seeds: nothing goes wrong, hangs, or is left."""
        for seed in range(SEEDS):
            run(seed, steps=250)

    def test_two_targets(self) -> None:
        """A device at two targets changes its unit for the sessions of both at once."""
        run(5049)

    def found(self) -> str:
        """Return what one of some seeds finds."""
        for seed in range(20):
            try:
                run(seed, steps=250)
            except AssertionError as error:
                found = str(error)
                del error
                # What was under way ends now, and may begin something else.
                for _round in range(3):
                    gc.collect()
                self.flushLoggedErrors()
                return found
        return self.fail("nothing was found")

    def test_finds_stale_maps(self) -> None:
        """A LUN map that sessions do not follow is found."""
        self.patch(Maps, "follow", lambda *_given, **_how: succeed(None))
        self.assertIn(" sees ", self.found())

    def test_finds_early_ends(self) -> None:
        """An abort that does not wait for the store is found."""

        def abort(_unit: Any, _tasks: Any, gone: Any, *, by: Any = None) -> None:
            gone()

        self.patch(LogicalUnit, "abort", abort)
        self.assertRegex(self.found(), "KeyError|has ended|under way|still there")
