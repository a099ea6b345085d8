# SPDX-License-Identifier: MIT
"""
Media that can be taken out: what disks and CD/DVD drives have in common.

A medium leaves in three ways: an initiator ejects it (START STOP UNIT), a person
changes it (`change`), or the store says that it is gone (`IRemovableMedium`).  The
first two are refused while any nexus prevents removal.  However it happens, `changed`
is where the logical unit learns of it, at that moment: commands that were decoded for
the medium before end with a unit attention, every nexus is told, and nothing is read
from two media.

A store that is no drive can be removable by configuration: then the medium stays where
it is, and only cannot be seen while it is ejected.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.interfaces import Result
from scstd.scsi.sam import ITL
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.unit import LogicalUnit

_log = Logger()

OPERATIONAL, MEDIA = 1, 4
"""Classes of events that happen here (MMC-6, GET EVENT STATUS NOTIFICATION)."""

EJECT_REQUEST, NEW_MEDIA, MEDIA_REMOVAL = 1, 2, 3
"""Events of the class `MEDIA`."""

OPERATIONAL_CHANGE = 2
"""The event of the class `OPERATIONAL`: other features are current now."""

_NEW = ASC.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED


class RemovalPrevented(Exception):  # noqa: N818 - the standard's name
    """
    The medium cannot be changed: *initiators* prevent it.
    """

    def __init__(self, initiators: list[str]) -> None:
        super().__init__(f"its removal is prevented by {', '.join(initiators)}")
        self.initiators = initiators


class Tray:
    """
    The tray of a unit's drive, or what stands for one.
    """

    def __init__(self, _unit: LogicalUnit) -> None:
        self.open = False
        self.moving: ITL | None = None
        """The nexus whose START STOP UNIT is moving the medium."""


def begin(unit: LogicalUnit) -> None:
    """
    Say that a unit that is being opened has no medium, if it stands on a drive without.
    """
    if unit.volume.can.drive is None:
        return
    unit.describe(removable=True)
    if not unit.blocks:
        unit.stop(ASC.MEDIUM_NOT_PRESENT)


def changed(unit: LogicalUnit) -> None:
    """
    Take in that the medium is another one, or that there is none.
    """
    if unit.blocks:
        why = CheckCondition(SenseKey.UNIT_ATTENTION, _NEW)
    else:
        why = CheckCondition(SenseKey.NOT_READY, ASC.MEDIUM_NOT_PRESENT)
    for task in unit.tasks():
        # It was meant for the medium before.  A call to the store that is under way
        # ends as that medium ends it; no further one is made.
        row = task.row
        touches = row is not None and (row.writes or row.extent or task.internal)
        if touches and not task.finished:
            task.error = why
    if unit.copies is not None:
        unit.copies.tokens.cancel(unit)
    if unit.blocks:
        unit.part(Tray).open = False
        _there(unit)
        unit.attention(_NEW, but=unit.part(Tray).moving)
        tell(unit, MEDIA, NEW_MEDIA)
    else:
        unit.stop(ASC.MEDIUM_NOT_PRESENT)
        tell(unit, MEDIA, MEDIA_REMOVAL)
    tell(unit, OPERATIONAL, OPERATIONAL_CHANGE)
    unit.report("MEDIUM_CHANGED", device=unit.name, blocks=unit.blocks)


def _there(unit: LogicalUnit) -> None:
    """
    Make the unit ready, if nothing but the medium was missing.
    """
    if unit.stopped == ASC.MEDIUM_NOT_PRESENT:
        unit.stop(0)


def tell(unit: LogicalUnit, kind: int, code: int) -> None:
    """
    Have each nexus find an event when it asks for those of this class.
    """
    for itl in unit.itls:
        itl.events[kind] = code


# Preventing.


def preventing(unit: LogicalUnit) -> list[ITL]:
    """
    Return the nexuses that prevent removal.
    """
    return [
        itl for itl in unit.itls if itl.prevents_removal or itl.prevents_persistently
    ]


def check(unit: LogicalUnit) -> None:
    """
    :raises CheckCondition: some nexus prevents removal.
    """
    if preventing(unit):
        raise CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.MEDIUM_REMOVAL_PREVENTED)


# Moving the medium.


def eject(unit: LogicalUnit, itl: ITL, *, flush: bool) -> Deferred[None]:
    """
    Take the medium out for a nexus.

    :raises CheckCondition: some nexus prevents it.
    """
    check(unit)
    return Deferred.fromCoroutine(_eject(unit, itl, flush=flush))


async def _eject(unit: LogicalUnit, itl: ITL, *, flush: bool) -> None:
    there = not unit.stopped
    unit.stop(ASC.MEDIUM_NOT_PRESENT)
    try:
        if flush and there and not unit.volume.read_only:
            await _settled(unit.store.flush())
        if unit.volume.can.drive is not None:
            await _move(unit, itl, unit.volume.can.drive.eject)
    except BaseException:
        if there and unit.blocks:
            _there(unit)
        raise
    unit.part(Tray).open = True


def load(unit: LogicalUnit, itl: ITL) -> Deferred[None] | None:
    """
    Put the medium in again for a nexus, which needs not be told.
    """
    unit.part(Tray).open = False
    if unit.volume.can.drive is not None:
        return Deferred.fromCoroutine(_move(unit, itl, unit.volume.can.drive.load))
    if unit.stopped == ASC.MEDIUM_NOT_PRESENT:
        unit.stop(0)
        unit.attention(_NEW, but=itl)
    return None


async def _move(unit: LogicalUnit, itl: ITL, call: Callable[[], Result[None]]) -> None:
    """
    Have the drive move its medium for a nexus.
    """
    unit.part(Tray).moving = itl
    try:
        await _settled(call())
    except OSError as error:
        _log.warn("{unit}: the medium: {error}", unit=unit.name, error=error)
        if error.errno == errno.ENOMEDIUM:
            raise CheckCondition(SenseKey.NOT_READY, ASC.MEDIUM_NOT_PRESENT) from error
        raise CheckCondition(
            SenseKey.HARDWARE_ERROR, ASC.MEDIA_LOAD_OR_EJECT_FAILED
        ) from error
    finally:
        unit.part(Tray).moving = None


def change(unit: LogicalUnit, medium: str, *, force: bool = False) -> Deferred[None]:
    """
    Change the medium because a person wants it, to none with an empty name.

    While nexuses prevent removal it is not changed, unless by *force*; they find an
    eject request among their events then, as if the drive's button had been pressed.

    :raises RemovalPrevented: nexuses prevent it.
    :raises OSError: the drive cannot, or the medium is being formatted or sanitized.
    """
    return Deferred.fromCoroutine(_change(unit, medium, force=force))


async def _change(unit: LogicalUnit, medium: str, *, force: bool) -> None:
    assert unit.volume.can.drive is not None
    if unit.background is not None:
        # What is being done to this medium would go on with the next.
        raise OSError(errno.EBUSY, "it is being formatted or sanitized")
    nexuses = preventing(unit)
    if nexuses and unit.blocks and not force:
        tell(unit, MEDIA, EJECT_REQUEST)
        raise RemovalPrevented(sorted({one.nexus.initiator for one in nexuses}))
    await _settled(unit.volume.can.drive.change(medium))


async def _settled(result: Any) -> None:
    if isinstance(result, Deferred):
        await result
