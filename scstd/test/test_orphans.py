# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.state.orphans`.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from scstd.management.state.orphans import Claim, orphans


class OrphansTests(SynchronousTestCase):
    """
    Who is waited for, and who is not.
    """

    def setUp(self) -> None:
        """Have a state directory."""
        self.state = Path(self.mktemp())

    def claim(self) -> tuple[Claim, int]:
        """Return what a front holds, and what its workers do."""
        claim = Claim.at(self.state)
        return claim, os.dup(claim.workers)

    def die(self, claim: Claim) -> None:
        """End a front."""
        os.close(claim.front)
        os.close(claim.workers)

    def left(self) -> list[Path]:
        """Return the files."""
        return list((self.state / "fronts").iterdir())

    def test_none(self) -> None:
        """Where nobody ever had workers there is nothing, and nothing is made."""
        self.assertFalse(orphans(self.state))
        self.assertFalse(self.state.exists())

    def test_orphans(self) -> None:
        """Workers whose front is gone are orphans until the last one has ended."""
        claim, workers = self.claim()
        other = os.dup(workers)
        self.assertFalse(orphans(self.state))
        self.die(claim)
        self.assertTrue(orphans(self.state))
        os.close(workers)
        self.assertTrue(orphans(self.state))
        os.close(other)
        self.assertFalse(orphans(self.state))
        self.assertEqual(self.left(), [])

    def test_ended(self) -> None:
        """A front that ends as it should leaves nothing."""
        claim, workers = self.claim()
        os.close(workers)
        claim.drop()
        self.assertEqual(self.left(), [])

    def test_two(self) -> None:
        """Of two that share the directory, the one that is there hides no orphans."""
        there, its = self.claim()
        gone, workers = self.claim()
        self.die(gone)
        self.assertTrue(orphans(self.state))
        os.close(workers)
        self.assertFalse(orphans(self.state))
        self.assertEqual(len(self.left()), 2)
        os.close(its)
        there.drop()

    def test_front_alone(self) -> None:
        """A front whose workers have all been killed is nobody to wait for."""
        claim, workers = self.claim()
        os.close(workers)
        self.die(claim)
        self.assertFalse(orphans(self.state))
