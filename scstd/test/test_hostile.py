# SPDX-License-Identifier: MIT
"""
Whatever comes after a login, nothing is raised, grows, or is left behind: some seeds of
`scstd.test.hostile`, which runs by itself for as long as one likes.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.test.hostile import Assault

SEEDS = 200


class HostileTests(SynchronousTestCase):
    """
    Damaged PDUs.
    """

    def test_seeds(self) -> None:
        """The first seeds: every kind of PDU, on every level, with all kinds of harm."""
        for seed in range(SEEDS):
            try:
                Assault(seed).run()
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
