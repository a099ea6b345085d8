# SPDX-License-Identifier: MIT
"""
From a backstore to a logical unit: a disk, or a CD/DVD drive.

The store is made a volume (`scstd.block.volume`), and what that can do decides what the
disk can do.  What a person has configured (`settings`, all of it optional) takes
precedence, but for what the store cannot do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from scstd.block.capabilities import Capabilities
from scstd.block.persistence import Persistence, Volatile
from scstd.block.remembered import pending
from scstd.block.volume import Volume
from scstd.interfaces import BLOCK_SIZES, IBackstore, ICommandDevice
from scstd.results import settled
from scstd.scsi import passthrough, removable
from scstd.scsi.asking import asked_rows, nobody, sessions_of
from scstd.scsi.checked_device import checked_device
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.dormant import Dormant
from scstd.scsi.frontend import UnitFrontend
from scstd.scsi.identity import Identity
from scstd.scsi.kinds import CDROM, DISK, DeviceKind
from scstd.scsi.passthrough import PassThroughUnit as Passed
from scstd.scsi.persistent import ReservationState
from scstd.scsi.sam import Task
from scstd.scsi.sbc import background, journal
from scstd.scsi.sense import ASC
from scstd.scsi.settings import UnitSettings
from scstd.scsi.spc import mode
from scstd.scsi.unit import LogicalUnit

NOTHING_SET = UnitSettings()
"""What is configured where nobody has configured anything."""

OPTICAL_BLOCK = 2048
"""Bytes of user data in a sector of a CD or DVD."""


def _identity(memory: Persistence, settings: UnitSettings) -> Identity:
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
    store: IBackstore | Volume,
    settings: UnitSettings = NOTHING_SET,
    memory: Persistence | None = None,
    clock: Callable[[], float] | None = None,
    copies: CopyManager | None = None,
    later: Callable[[Callable[[], None]], None] | None = None,
    steady: Callable[[], float] | None = None,
) -> LogicalUnit:
    """
    Return the logical unit that *store* makes, by what it provides: one whose commands
    it takes itself, a CD/DVD device, or a disk.

    :raises ValueError: it makes none.
    """
    if ICommandDevice.providedBy(store):
        return open_passthrough(name, store, settings, memory, clock, steady)
    volume = _volume(name, store, settings)
    if volume.can.optical:
        return open_cdrom(name, volume, settings, memory, clock, steady)
    return open_disk(name, volume, settings, memory, clock, copies, later, steady)


def open_passthrough(
    name: str,
    store: Any,
    settings: UnitSettings = NOTHING_SET,
    memory: Persistence | None = None,
    clock: Callable[[], float] | None = None,
    steady: Callable[[], float] | None = None,
) -> LogicalUnit:
    """
    Return a logical unit whose commands go to a device that takes them whole
    (`ICommandDevice`).

    :raises ValueError: it does not provide what it says.
    """
    memory = memory or Volatile()
    device = checked_device(store, name)
    kind = DeviceKind("pass-through", device.device_type, ())
    volume = Volume(name, device, Capabilities.of(device))
    unit = _begin(
        volume,
        kind,
        settings,
        memory,
        clock,
        steady,
        made=Passed,
        max_tasks=settings.max_tasks,
    )
    passthrough.begin(unit)
    unit.modes_changed()
    unit.reservation.restore(_reservations(memory))
    return unit


def open_disk(
    name: str,
    store: IBackstore | Volume,
    settings: UnitSettings = NOTHING_SET,
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
    volume = _volume(name, store, settings)
    size, empty = volume.block_size, not volume.blocks and volume.can.drive is None
    if size not in BLOCK_SIZES or empty:
        raise ValueError(f"{name}: {volume.size} bytes in blocks of {size} are no disk")
    unit = _begin(
        volume,
        DISK,
        settings,
        memory or Volatile(),
        clock,
        steady,
        later=later,
        copies=copies or CopyManager(),
        long_cdbs=settings.long_cdbs,
        erasable=settings.erasable,
        max_tasks=settings.max_tasks,
        explicit_access=settings.explicit_access,
        write_cache=not (volume.can.write_through or settings.write_through),
    )
    _finish(unit, DISK)
    interrupted = pending(unit.memory.load()) is not None
    journal.recover(unit, void=interrupted)
    background.resume(unit)
    return unit


def open_cdrom(
    name: str,
    store: IBackstore | Volume,
    settings: UnitSettings = NOTHING_SET,
    memory: Persistence | None = None,
    clock: Callable[[], float] | None = None,
    steady: Callable[[], float] | None = None,
) -> LogicalUnit:
    """
    Return a CD/DVD device (MMC-6) on *store*, which may be without a medium.

    :raises ValueError: the store's sizes make no disc.
    """
    settings = attrs.evolve(settings, read_only=True, removable=True)
    volume = _volume(name, store, settings)
    if volume.block_size != OPTICAL_BLOCK:
        raise ValueError(
            f"{name}: {volume.size} bytes in blocks of {volume.block_size} are no disc"
        )
    unit = _begin(volume, CDROM, settings, memory or Volatile(), clock, steady)
    _finish(unit, CDROM)
    return unit


def open_dormant(
    name: str,
    settings: UnitSettings,
    memory: Persistence | None = None,
    clock: Callable[[], float] | None = None,
    steady: Callable[[], float] | None = None,
    device_type: int = DISK.device_type,
) -> LogicalUnit:
    """
    Return the unit of a device whose medium is not there (`scstd.scsi.dormant`).
    """
    kind = CDROM if device_type == CDROM.device_type else DISK
    size = OPTICAL_BLOCK if kind is CDROM else settings.block_size
    volume = Volume.without_medium(name, size, settings, optical=kind is CDROM)
    unit = _begin(
        volume,
        kind,
        settings,
        memory or Volatile(),
        clock,
        steady,
        device_type=device_type,
        max_tasks=settings.max_tasks,
        explicit_access=settings.explicit_access,
    )
    _finish(unit, kind)
    unit.impose(Dormant())
    return unit


def _volume(name: str, store: IBackstore | Volume, settings: UnitSettings) -> Volume:
    return store if isinstance(store, Volume) else Volume.on(name, store, settings)


def _begin(
    volume: Volume,
    kind: DeviceKind,
    settings: UnitSettings,
    memory: Persistence,
    clock: Callable[[], float] | None,
    steady: Callable[[], float] | None,
    *,
    made: type[LogicalUnit] = LogicalUnit,
    **more: Any,
) -> LogicalUnit:
    """
    Return a logical unit of a kind, with its names; *more* is what else it is made
    with.
    """
    steady = steady or clock
    if steady is not None:
        volume.counters.measure(steady)
    more.setdefault("device_type", kind.device_type)
    unit = made(
        volume.name,
        volume,
        identity=_identity(memory, settings),
        memory=memory,
        clock=clock,
        steady=steady,
        opened=steady() if steady is not None else 0.0,
        separate_task_sets=settings.separate_task_sets,
        **more,
    )
    unit.self_tests.load(memory.load().get("self_tests", []))
    unit.reservation.by_name = settings.registered_by_name
    unit.configure(settings)
    return unit


def _finish(unit: LogicalUnit, kind: DeviceKind) -> None:
    """
    Give a unit that knows what it can do its mode pages and commands.
    """
    removable.begin(unit)
    unit.volume.join(UnitFrontend(unit))
    mode.begin(unit, unit.memory.load().get("modes", {}))
    commands, sessions = kind.commands(unit), sessions_of(unit.volume.can)
    if sessions is not None and sessions.asked:
        commands = asked_rows(commands)
    unit.equip(commands, sessions)
    unit.reservation.restore(_reservations(unit.memory))


def _reservations(memory: Persistence) -> ReservationState:
    """
    Return the persistent reservations that were kept.
    """
    try:
        return ReservationState.restored(memory.load().get("persistent"))
    except ValueError as error:
        raise ValueError(f"{memory}: {error}") from error


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
    unit.volume.leave(UnitFrontend(unit))
    await unit.volume.close()
