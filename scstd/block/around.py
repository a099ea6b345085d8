# SPDX-License-Identifier: MIT
"""
A store around another one: what both the checks of the contract and filters are made
of, the numbers and names that are the inner store's.
"""

from __future__ import annotations

from typing import Any


class Around:
    """
    A store before *inner*, whose every attribute but its size is that of *inner*.
    """

    inner: Any

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def block_size(self) -> int:
        """The inner store's block length."""
        block_size: int = self.inner.block_size
        return block_size

    @property
    def unmap_granularity(self) -> int:
        """The inner store's granularity."""
        granularity: int = self.inner.unmap_granularity
        return granularity

    @property
    def unmap_alignment(self) -> int:
        """The inner store's alignment, which it need not have."""
        alignment: int = getattr(self.inner, "unmap_alignment", 0)
        return alignment

    @property
    def prefetch_limit(self) -> int:
        """The inner store's limit."""
        limit: int = self.inner.prefetch_limit
        return limit

    @property
    def medium(self) -> str:
        """The inner store's medium."""
        medium: str = self.inner.medium
        return medium
