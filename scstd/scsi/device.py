# SPDX-License-Identifier: MIT
"""
From a backstore to a logical unit: a disk, or a CD/DVD drive.

What the store provides decides what the disk can do: each optional interface is asked
for once, here.  What a person has configured (`settings`, all of it optional) takes
precedence, but for what the store cannot do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from scstd.block.checked import checked
from scstd.interfaces import (
    BLOCK_SIZES,
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IExtents,
    IOpticalDrive,
    IPrefetch,
    IReadOnly,
    IRemovableMedium,
    IResizeNotice,
    IUnmap,
    IWriteThrough,
    IWriteZeroes,
)
from scstd.results import settled
from scstd.scsi import removable
from scstd.scsi.asking import asked_rows, nobody, sessions_of
from scstd.scsi.bounds import bound
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.dormant import Dormant, Nothing
from scstd.scsi.identity import Identity
from scstd.scsi.kinds import CDROM, DISK, DeviceKind
from scstd.scsi.persistence import Persistence, Volatile
from scstd.scsi.persistent import ReservationState
from scstd.scsi.sam import Task
from scstd.scsi.sbc import background, journal
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.spc import mode
from scstd.scsi.unit import LogicalUnit

OPTICAL_BLOCK = 2048
"""Bytes of user data in a sector of a CD or DVD."""


def _identity(memory: Persistence, settings: Mapping[str, Any]) -> Identity:
    """
    Return who the device is: remembered, or new and remembered from now on.
    """
    known = memory.load()
    if "uuid" in known:
        return Identity.of(uuid.UUID(known["uuid"]), settings)
    unique = uuid.uuid4()
    memory.update("uuid", str(unique))
    return Identity.of(unique, settings)


def open_unit(
    name: str,
    store: IBackstore,
    settings: Mapping[str, Any] | None = None,
    memory: Persistence | None = None,
    clock: Callable[[], float] | None = None,
    copies: CopyManager | None = None,
    later: Callable[[Callable[[], None]], None] | None = None,
    steady: Callable[[], float] | None = None,
) -> LogicalUnit:
    """
    Return the logical unit that *store* makes: a CD/DVD device, or a disk.

    :raises ValueError: the store's sizes make neither.
    """
    if IOpticalDrive.providedBy(store):
        return open_cdrom(name, store, settings, memory, clock, steady)
    return open_disk(name, store, settings, memory, clock, copies, later, steady)


def open_disk(
    name: str,
    store: IBackstore,
    settings: Mapping[str, Any] | None = None,
    memory: Persistence | None = None,
    clock: Callable[[], float] | None = None,
    copies: CopyManager | None = None,
    later: Callable[[Callable[[], None]], None] | None = None,
    steady: Callable[[], float] | None = None,
) -> LogicalUnit:
    """
    Return a direct access block device (SBC-4) on *store*; what has the same *copies*
    can be copied to and from with one ROD token.

    *clock* returns the time in seconds since 1970, *steady* one that is never set, for
    durations; *later* has something called in another turn of the reactor
    (`LogicalUnit.later`).

    :raises ValueError: the store's sizes make no disk, or what *memory* has of its
        persistent reservations makes no sense.
    """
    settings = settings or {}
    store = checked(store, name)
    size = store.block_size
    empty = not store.size and not IRemovableMedium.providedBy(store)
    if size not in BLOCK_SIZES or store.size % size or empty:
        raise ValueError(f"{name}: {store.size} bytes in blocks of {size} are no disk")
    unit = _begin(name, store, DISK, settings, memory or Volatile(), clock, steady)
    unit.later = later
    unit.long_cdbs = bool(settings.get("long_cdbs"))
    unit.erasable = settings.get("erase_commands") is not False
    unit.removable = bool(settings.get("removable"))
    unit.rotational = bool(settings.get("rotational"))
    unit.read_only = bool(settings.get("read_only")) or IReadOnly.providedBy(store)
    unit.always_through = IWriteThrough.providedBy(store)
    unit.max_tasks = settings.get("max_tgt_dev_commands") or 0
    unit.explicit_access = bool(settings.get("expl_alua"))
    _capabilities(unit, settings)
    unit.write_cache = not unit.always_through and not settings.get("write_through")
    unit.copies = copies or CopyManager()
    _finish(unit, DISK, settings)
    if IResizeNotice.providedBy(store):
        store.on_resize(lambda _size: resized(unit))
    interrupted = background.pending(unit.memory.load()) is not None
    journal.recover(unit, void=interrupted)
    background.resume(unit)
    return unit


def open_cdrom(
    name: str,
    store: IBackstore,
    settings: Mapping[str, Any] | None = None,
    memory: Persistence | None = None,
    clock: Callable[[], float] | None = None,
    steady: Callable[[], float] | None = None,
) -> LogicalUnit:
    """
    Return a CD/DVD device (MMC-6) on *store*, which may be without a medium.

    :raises ValueError: the store's sizes make no disc.
    """
    store = checked(store, name)
    if store.block_size != OPTICAL_BLOCK or store.size % OPTICAL_BLOCK:
        raise ValueError(
            f"{name}: {store.size} bytes in blocks of {store.block_size} are no disc"
        )
    unit = _begin(
        name, store, CDROM, settings or {}, memory or Volatile(), clock, steady
    )
    unit.removable = True
    unit.read_only = True
    _finish(unit, CDROM, settings or {})
    return unit


def open_dormant(
    name: str,
    settings: Mapping[str, Any],
    memory: Persistence | None = None,
    clock: Callable[[], float] | None = None,
    steady: Callable[[], float] | None = None,
    device_type: int = DISK.device_type,
) -> LogicalUnit:
    """
    Return the unit of a device whose medium is not there (`scstd.scsi.dormant`).
    """
    kind = CDROM if device_type == CDROM.device_type else DISK
    size = OPTICAL_BLOCK if kind is CDROM else int(settings.get("blocksize") or 512)
    unit = _begin(
        name, Nothing(size), kind, settings, memory or Volatile(), clock, steady
    )
    unit.read_only = kind is CDROM or bool(settings.get("read_only"))
    unit.removable = kind is CDROM or bool(settings.get("removable"))
    unit.rotational = bool(settings.get("rotational"))
    unit.max_tasks = settings.get("max_tgt_dev_commands") or 0
    unit.explicit_access = bool(settings.get("expl_alua"))
    _finish(unit, kind, settings)
    unit.impose(Dormant())
    return unit


def _begin(
    name: str,
    store: IBackstore,
    kind: DeviceKind,
    settings: Mapping[str, Any],
    memory: Persistence,
    clock: Callable[[], float] | None,
    steady: Callable[[], float] | None,
) -> LogicalUnit:
    """
    Return a logical unit of a kind: what it is called, and how large it is.
    """
    unit = LogicalUnit(name, store, identity=_identity(memory, settings))
    unit.memory = memory
    unit.clock = clock
    unit.steady = steady or clock
    if unit.steady is not None:
        unit.statistics.measure(unit.steady)
    unit.opened = unit.steady() if unit.steady is not None else 0.0
    unit.self_tests.load(memory.load().get("self_tests", []))
    unit.device_type = kind.device_type
    unit.vendor = settings.get("t10_vend_id") or unit.vendor
    unit.product = settings.get("prod_id") or name
    unit.revision = settings.get("prod_rev_lvl") or unit.revision
    unit.inquiry_specific = (settings.get("inq_vend_specific") or "").encode()
    unit.management_url = settings.get("management_url") or ""
    unit.separate_task_sets = settings.get("tst") != 0
    unit.reservation.by_name = bool(settings.get("pr_ignore_isid"))
    _measure(unit, settings)
    return unit


def _finish(unit: LogicalUnit, kind: DeviceKind, settings: Mapping[str, Any]) -> None:
    """
    Give a unit that knows what it can do its limits, mode pages and commands.
    """
    bound(unit, settings)
    removable.begin(unit)
    mode.begin(unit, unit.memory.load().get("modes", {}))
    unit.commands = kind.commands(unit)
    unit.sessions = sessions_of(unit.store)
    if unit.sessions is not None and unit.sessions.asked:
        unit.commands = asked_rows(unit.commands)
    unit.reservation.restore(_reservations(unit.memory))


def _reservations(memory: Persistence) -> ReservationState:
    """
    Return the persistent reservations that were kept.
    """
    try:
        return ReservationState.restored(memory.load().get("persistent"))
    except ValueError as error:
        raise ValueError(f"{memory}: {error}") from error


def _measure(unit: LogicalUnit, settings: Mapping[str, Any]) -> None:
    store = unit.store
    unit.block_size = size = store.block_size
    unit.block_shift = shift = size.bit_length() - 1
    unit.blocks = store.size >> shift
    # Disks of 512-byte blocks on today's media and page caches are 512e.
    unit.physical_exponent = physical_exponent(
        shift, large=settings.get("lb_per_pb_exp") is not False
    )


def physical_exponent(shift: int, *, large: bool) -> int:
    """
    Return the binary logarithm of the logical blocks in a physical one, for blocks of
    ``1 << shift`` bytes: of 4096 bytes if it is to be *large*, but never less than one.
    """
    return max(12 - shift, 0) if large else 0


def _capabilities(unit: LogicalUnit, settings: Mapping[str, Any]) -> None:
    store = unit.store
    unit.zeroes = store if IWriteZeroes.providedBy(store) else None
    unit.compares = store if ICompareAndWrite.providedBy(store) else None
    unit.block_status = store if IBlockStatus.providedBy(store) else None
    unit.extents = store if IExtents.providedBy(store) else None
    unit.copy_source = store if ICopySource.providedBy(store) else None
    unit.copy_target = store if ICopyTarget.providedBy(store) else None
    unit.prefetches = store if IPrefetch.providedBy(store) else None
    wanted = settings.get("thin_provisioned")
    if wanted is not False and IUnmap.providedBy(store):
        unit.thin = True
        unit.unmaps = store
        unit.unmap_granularity = max(store.unmap_granularity, unit.block_size)
        unit.unmap_alignment = getattr(store, "unmap_alignment", 0)


def resized(unit: LogicalUnit) -> None:
    """
    Take in the store's new size, and tell every initiator.
    """
    unit.blocks = unit.store.size >> unit.block_shift
    for task in unit.tasks():
        # They were decoded when these blocks were there: what has not started yet, or
        # has further steps, must not write behind the end.
        row = task.row
        beyond = row is not None and row.extent and task.lba + task.blocks > unit.blocks
        if beyond and task.error is None and not task.finished:
            task.error = CheckCondition(
                SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
            )
    if unit.copies is not None:
        # Some of the blocks that they stand for may be gone (SBC-4 section 4.28.5).
        unit.copies.tokens.cancel(unit)
    unit.attention(ASC.CAPACITY_DATA_HAS_CHANGED)
    unit.report(
        "CAPACITY_CHANGED",
        device=unit.name,
        blocks=unit.blocks,
        block_size=unit.block_size,
    )


def soft_threshold_reached(unit: LogicalUnit) -> None:
    """
    Tell every initiator that space runs out (SBC-4 section 4.7, logical block
    provisioning thresholds).
    """
    unit.attention(ASC.THIN_PROVISIONING_SOFT_THRESHOLD_REACHED)
    unit.report("SOFT_THRESHOLD_REACHED", device=unit.name)


def close_disk(
    unit: LogicalUnit, *, but: Callable[[Task], bool] = lambda _task: False
) -> Deferred[None]:
    """
    Flush and close the store of a unit that no task comes to any more, when those of
    nexuses that were lost are over; *but* says which ones are not waited for, for they
    do not touch it.
    """
    return nobody(Deferred.fromCoroutine, _close(unit, but))


async def _close(unit: LogicalUnit, but: Callable[[Task], bool]) -> None:
    if unit.background is not None:
        await unit.background.stop()
    await settled(unit.self_tests.stop())
    await unit.quiet(but)
    if unit.copies is not None:
        unit.copies.tokens.forget(unit)
    if unit.sessions is not None:
        unit.sessions.close_all()
    try:
        if not unit.read_only:
            await settled(unit.store.flush())
    finally:
        await settled(unit.store.close())
