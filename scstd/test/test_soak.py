# SPDX-License-Identifier: MIT
"""
Short versions of `scstd.test.soak`; the long ones are `make soak`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.test import soak
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory


class SoakTests(SynchronousTestCase):
    """
    Nothing is left behind.
    """

    def test_logins(self) -> None:
        """Sessions that come and go leave no object and no memory behind."""
        self.assertIn("400 logins", soak.logins(400))

    def test_pings(self) -> None:
        """Pings leave no memory behind."""
        self.assertIn("4000 pings", soak.pings(4000))

    def test_finds_leaks(self) -> None:
        """A session that stays is found."""
        before = soak.alive()
        kept = serve(memory())
        one = Initiator(kept[0]).ready()
        self.assertNotEqual(soak.alive(), before)
        one.logout()
        del one, kept
        self.assertEqual(soak.alive(), before)

    def test_schedules(self) -> None:
        """The schedules' figures are what was done; the first seed can be chosen."""
        text = soak.schedules(2, first=1000, blocks=50)
        self.assertTrue(text.startswith("2 schedules: "), text)
