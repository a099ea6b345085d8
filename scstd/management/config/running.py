# SPDX-License-Identifier: MIT
"""
What a plan has to know of running devices beside how they are configured.
"""

from __future__ import annotations

from typing import Protocol


class RunningDevices(Protocol):
    """
    What a plan has to know of running devices, by their names.
    """

    def can_change(self, name: str, attribute: str) -> bool:
        """
        Say whether an attribute that is not `Effect.LIVE` can be changed nevertheless.
        """

    def bytes_of(self, name: str) -> int:
        """Return how large it is."""

    def is_lost(self, name: str) -> bool:
        """Say whether it should be open, and could not be opened."""

    def is_volatile(self, name: str) -> bool:
        """Say whether what it holds is gone when it is closed."""


class NothingRuns:
    """
    No device runs.
    """

    def can_change(self, name: str, attribute: str) -> bool:  # noqa: ARG002
        """Say no."""
        return False

    def bytes_of(self, name: str) -> int:  # noqa: ARG002
        """Say nothing."""
        return 0

    def is_lost(self, name: str) -> bool:  # noqa: ARG002
        """Say no."""
        return False

    def is_volatile(self, name: str) -> bool:  # noqa: ARG002
        """Say no."""
        return False
