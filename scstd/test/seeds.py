# SPDX-License-Identifier: MIT
"""
One seed after another, for as long as one likes.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def try_seeds(attack: Callable[[int], object], seconds: float, first: int = 0) -> None:
    """
    Call *attack* with seeds from *first* on for so many seconds, and print how many
    there were; print the one with which it fails.
    """
    until, seed = time.monotonic() + seconds, first
    while time.monotonic() < until:
        try:
            attack(seed)
        except BaseException:
            print("seed", seed)
            raise
        seed += 1
    print(seed - first, "seeds")
