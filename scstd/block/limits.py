# SPDX-License-Identifier: MIT
"""
How much one command may do at a volume: initiators are told (SBC-4 section 6.6.3, VPD
page B0h), and commands are held to it.

Each has a default, and can be configured: smaller for a store that has to be handed
what is written, larger for initiators that would else send many commands.
"""

from __future__ import annotations

import attrs

from scstd.block.settings import VolumeSettings

MAX_TRANSFERRED = 8 << 20
"""Bytes that one command may read or write: each is in memory while it is under way."""

MAX_SAME = 256 << 20
"""Bytes that one command may fill, where the store has to be handed them."""

MAX_SAME_BLOCKS = 65535
"""The same in blocks: with more, libiscsi's suite asks for single transfers as long."""

MAX_COMPARED = 1 << 20
"""Bytes that one command may compare and write."""

MAX_ATOMIC = 1 << 20
"""Bytes that one command may write atomically."""

MAX_UNMAPPED = 1 << 20
"""Blocks that one command may deallocate."""

MAX_DESCRIPTORS = 256
"""Ranges that it may deallocate."""

OPTIMAL = 1 << 20
"""Bytes a transfer is best not longer than, when nothing is configured."""


@attrs.frozen
class Limits:
    """
    The limits of one volume, in blocks but for *max_descriptors*.
    """

    max_blocks: int = 0
    """Read or written by one command."""
    optimal_blocks: int = 0
    """The same, when it is to be fast."""
    max_compared: int = 0
    """Compared and written at once."""
    max_same: int = 0
    """Filled with one block."""
    max_atomic: int = 0
    """Written atomically."""
    max_unmapped: int = 0
    """Deallocated; 0 of a volume that is not thin, as the next."""
    max_descriptors: int = 0
    """Ranges to be deallocated."""

    @classmethod
    def of(cls, settings: VolumeSettings, shift: int, *, thin: bool) -> Limits:
        """
        Return the limits that are configured, or the
        defaults, for blocks of ``1 << shift`` bytes.
        """
        blocks = max(1, (settings.max_transfer or MAX_TRANSFERRED) >> shift)
        optimal = (settings.optimal_transfer or OPTIMAL) >> shift
        same = min(MAX_SAME >> shift, MAX_SAME_BLOCKS)
        atomic = settings.max_atomic or MAX_ATOMIC >> shift
        unmapped = settings.max_unmapped or MAX_UNMAPPED
        ranges = settings.max_descriptors or MAX_DESCRIPTORS
        return cls(
            max_blocks=blocks,
            optimal_blocks=min(max(1, optimal), blocks),
            max_compared=min(MAX_COMPARED >> shift, 255, blocks),
            max_same=settings.max_same or same,
            max_atomic=min(atomic, blocks, 65535),
            max_unmapped=unmapped if thin else 0,
            max_descriptors=ranges if thin else 0,
        )
