# SPDX-License-Identifier: MIT
"""
Whatever comes at a face, nothing is raised or left unanswered: some seeds of
`scstd.test.faces`, which runs by itself for as long as one likes.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from scstd.test.faces import Assault

SEEDS = 120


class FacesTests(SynchronousTestCase):
    """
    Odd and hostile input.
    """

    def test_seeds(self) -> None:
        """The first seeds: every face, with all kinds of harm."""
        directory = Path(self.mktemp())
        for seed in range(SEEDS):
            try:
                Assault(seed, directory).run()
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
