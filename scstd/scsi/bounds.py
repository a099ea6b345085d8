# SPDX-License-Identifier: MIT
"""
How much one command may do: the limits of VPD page B0h (SBC-4 section 6.6.3), which
commands are held to.

Each has a default, and can be configured: smaller for a store that has to be handed
what is written, larger for initiators that would else send many commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scstd.scsi.traits import Traits

MOST_TRANSFERRED = 8 << 20
"""Bytes that one READ or WRITE may move: each is in memory while it is under way."""

MOST_SAME = 256 << 20
"""Bytes that one WRITE SAME may fill, where the store has to be handed them."""

MOST_SAME_BLOCKS = 65535
"""The same in blocks: with more, libiscsi's suite asks for single transfers as long."""

MOST_COMPARED = 1 << 20
"""Bytes that one COMPARE AND WRITE may compare."""

MOST_ATOMIC = 1 << 20
"""Bytes that one WRITE ATOMIC may write."""

MOST_UNMAPPED = 1 << 20
"""Blocks that one UNMAP may deallocate."""

MOST_DESCRIPTORS = 256
"""Ranges that one UNMAP may have."""

OPTIMAL = 1 << 20
"""Bytes a transfer is best not longer than, when nothing is configured."""


def bound(unit: Traits, settings: Mapping[str, Any]) -> None:
    """
    Give a unit whose block length is known, and whether it is thin, its limits.
    """
    shift = unit.block_shift
    unit.max_blocks = max(
        1, (settings.get("max_trans_len") or MOST_TRANSFERRED) >> shift
    )
    optimal = (settings.get("opt_trans_len") or OPTIMAL) >> shift
    unit.optimal_blocks = min(max(1, optimal), unit.max_blocks)
    unit.max_compared = min(MOST_COMPARED >> shift, 255, unit.max_blocks)
    unit.max_same = settings.get("max_write_same_len") or min(
        MOST_SAME >> shift, MOST_SAME_BLOCKS
    )
    atomic = settings.get("atomic_max_len") or MOST_ATOMIC >> shift
    unit.max_atomic = min(atomic, unit.max_blocks, 65535)
    if unit.thin:
        unit.max_unmapped = settings.get("max_unmap_lba_count") or MOST_UNMAPPED
        unit.max_descriptors = (
            settings.get("max_unmap_block_desc_count") or MOST_DESCRIPTORS
        )
