# SPDX-License-Identifier: MIT
"""
From a backstore to a logical unit: a disk.

What the store provides decides what the disk can do: each optional interface is asked
for once, here.  What a person has configured (`settings`, all of it optional) takes
precedence, but for what the store cannot do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from scstd.interfaces import (
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    IPrefetch,
    IReadOnly,
    IResizeNotice,
    IUnmap,
    IWriteThrough,
    IWriteZeroes,
    IZeroCopySource,
)
from scstd.scsi.identity import Identity
from scstd.scsi.kinds import DISK
from scstd.scsi.memory import Forgetful, Memory
from scstd.scsi.sbc import background, journal
from scstd.scsi.sense import ASC
from scstd.scsi.spc import mode
from scstd.scsi.unit import LogicalUnit

MOST_TRANSFERRED = 8 << 20
"""Bytes that one READ or WRITE may move: each is in memory while it is under way."""

MOST_SAME = 256 << 20
"""Bytes that one WRITE SAME may fill, where the store has to be handed them."""

MOST_SAME_BLOCKS = 65535
"""The same in blocks: with more, libiscsi's suite asks for single transfers as long."""

MOST_ATOMIC = 1 << 20
"""Bytes that one WRITE ATOMIC may write."""

MOST_UNMAPPED = 1 << 20
"""Blocks that one UNMAP may deallocate."""

OPTIMAL = 1 << 20
"""Bytes a transfer is best not longer than, when nothing is configured."""


def _identity(memory: Memory, settings: Mapping[str, Any]) -> Identity:
    """
    Return who the device is: remembered, or new and remembered from now on.
    """
    known = memory.load()
    if "uuid" in known:
        return Identity.of(uuid.UUID(known["uuid"]), settings)
    unique = uuid.uuid4()
    memory.update("uuid", str(unique))
    return Identity.of(unique, settings)


def open_disk(
    name: str,
    store: IBackstore,
    settings: Mapping[str, Any] | None = None,
    memory: Memory | None = None,
    later: Callable[[Callable[[], None]], None] | None = None,
) -> LogicalUnit:
    """
    Return a direct access block device (SBC-4) on *store*.

    *later* has something called in another turn of the reactor (`LogicalUnit.later`).

    :raises ValueError: the store's sizes make no disk.
    """
    settings = settings or {}
    memory = memory or Forgetful()
    size = store.block_size
    if size not in {512, 1024, 2048, 4096} or store.size <= 0 or store.size % size:
        raise ValueError(f"{name}: {store.size} bytes in blocks of {size} are no disk")
    unit = LogicalUnit(name, store, identity=_identity(memory, settings))
    unit.memory = memory
    unit.later = later
    unit.device_type = DISK.device_type
    unit.vendor = settings.get("t10_vend_id") or unit.vendor
    unit.product = settings.get("prod_id") or name
    unit.revision = settings.get("prod_rev_lvl") or unit.revision
    unit.removable = bool(settings.get("removable"))
    unit.rotational = bool(settings.get("rotational"))
    unit.read_only = bool(settings.get("read_only")) or IReadOnly.providedBy(store)
    unit.always_through = IWriteThrough.providedBy(store)
    unit.separate_task_sets = settings.get("tst") != 0
    _measure(unit, settings)
    _capabilities(unit, settings)
    unit.write_cache = not unit.always_through and not settings.get("write_through")
    mode.begin(unit, memory.load().get("modes", {}))
    unit.long_cdbs = bool(settings.get("long_cdbs"))
    unit.erasable = settings.get("erase_commands") is not False
    unit.commands = DISK.commands(unit)
    if IResizeNotice.providedBy(store):
        store.on_resize(lambda _size: resized(unit))
    journal.recover(unit)
    background.resume(unit)
    return unit


def _measure(unit: LogicalUnit, settings: Mapping[str, Any]) -> None:
    store = unit.store
    unit.block_size = size = store.block_size
    unit.block_shift = shift = size.bit_length() - 1
    unit.blocks = store.size >> shift
    # Disks of 512-byte blocks on today's media and page caches are 512e.
    unit.physical_exponent = 0 if settings.get("lb_per_pb_exp") is False else 12 - shift
    unit.most_blocks = MOST_TRANSFERRED >> shift
    unit.optimal_blocks = (settings.get("opt_trans_len") or OPTIMAL) >> shift
    unit.most_compared = 255
    unit.most_atomic = min(MOST_ATOMIC >> shift, 65535)
    unit.most_same = min(MOST_SAME >> shift, MOST_SAME_BLOCKS)


def _capabilities(unit: LogicalUnit, settings: Mapping[str, Any]) -> None:
    store = unit.store
    unit.zeroes = store if IWriteZeroes.providedBy(store) else None
    unit.compares = store if ICompareAndWrite.providedBy(store) else None
    unit.source = store if IZeroCopySource.providedBy(store) else None
    unit.block_status = store if IBlockStatus.providedBy(store) else None
    unit.prefetches = store if IPrefetch.providedBy(store) else None
    wanted = settings.get("thin_provisioned")
    if wanted is not False and IUnmap.providedBy(store):
        unit.thin = True
        unit.unmaps = store
        unit.unmap_granularity = max(store.unmap_granularity, unit.block_size)
        unit.unmap_alignment = getattr(store, "unmap_alignment", 0)
        unit.most_unmapped = MOST_UNMAPPED
        unit.most_descriptors = 256


def resized(unit: LogicalUnit) -> None:
    """
    Take in the store's new size, and tell every initiator.
    """
    unit.blocks = unit.store.size >> unit.block_shift
    unit.attention(ASC.CAPACITY_DATA_HAS_CHANGED)


def soft_threshold_reached(unit: LogicalUnit) -> None:
    """
    Tell every initiator that space runs out (SBC-4 section 4.7, logical block
    provisioning thresholds).
    """
    unit.attention(ASC.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED)


def close_disk(unit: LogicalUnit) -> Deferred[None]:
    """
    Flush and close the store of a unit that no task uses any more.
    """
    return Deferred.fromCoroutine(_close(unit))


async def _close(unit: LogicalUnit) -> None:
    if unit.background is not None:
        await unit.background.stop()
    try:
        if not unit.read_only:
            flushed = unit.store.flush()
            if isinstance(flushed, Deferred):
                await flushed
    finally:
        closed = unit.store.close()
        if isinstance(closed, Deferred):
            await closed
