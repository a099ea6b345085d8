# SPDX-License-Identifier: MIT
"""
How many examples a property is tried with.

A busy machine is no reason for a test to fail, so nothing that hypothesis measures in
seconds counts.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_BY_THE_CLOCK = (HealthCheck.too_slow,)


def examples(most: int = 100) -> settings:
    """
    Return a decorator for a property: try it with at most so many examples.
    """
    return settings(
        max_examples=most,
        deadline=None,
        suppress_health_check=_BY_THE_CLOCK,
    )
