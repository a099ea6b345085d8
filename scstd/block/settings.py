# SPDX-License-Identifier: MIT
"""
What a person may configure of a volume; without a word each is as here.
"""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class VolumeSettings:
    """
    What is configured of a volume (`scstd.block.volume.Volume.configure`).
    """

    read_only: bool = False
    """It is not to be written."""
    thin: bool | None = None
    """It is thin provisioned; None: if its store can deallocate."""
    large_physical_blocks: bool = True
    """Its physical blocks are of 4096 bytes: it is 512e, if its blocks are smaller."""
    max_transfer: int | None = None
    """Bytes that one command may read or write."""
    optimal_transfer: int | None = None
    """The same, when it is to be fast."""
    max_same: int | None = None
    """Blocks that one command may fill with one."""
    max_atomic: int | None = None
    """Blocks that one command may write atomically."""
    max_unmapped: int | None = None
    """Blocks that one command may deallocate."""
    max_descriptors: int | None = None
    """Ranges that it may deallocate."""
