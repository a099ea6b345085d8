# SPDX-License-Identifier: MIT
"""
The tray, and what happens to it (MMC-6): START STOP UNIT, PREVENT ALLOW
MEDIUM REMOVAL, GET EVENT STATUS NOTIFICATION, MECHANISM STATUS.

Events are kept for each nexus until it asks for their class: two hosts of one drive
both learn of a new disc.
"""

from __future__ import annotations

from struct import pack

from scstd.scsi import removable
from scstd.scsi.allow import Allow, allowing, starting
from scstd.scsi.command import CommandSet, Outcome
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import CheckCondition, SenseKey, illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


@COMMANDS.command(
    0x1B,
    "START STOP UNIT",
    "1b 01 00 00 f3 00",
    allow=Allow.NO_MEDIUM,
    also=starting,
)
def start_stop_unit(unit: LogicalUnit, task: Task) -> Outcome:
    """
    START STOP UNIT (MMC-6): eject and load; there is nothing to spin, and
    no power to save.
    """
    flags = task.cdb[4]
    if flags >> 4:
        if flags >> 4 not in {1, 2, 3, 5}:
            raise illegal_field(4, 7)
        return None
    start, move = flags & 1, flags & 2
    if not move:
        if start and unit.stopped:
            raise CheckCondition(SenseKey.NOT_READY, unit.stopped)
        return None
    if start:
        return removable.load(unit, task.itl)
    return removable.eject(unit, task.itl, flush=False)


@COMMANDS.command(
    0x1E,
    "PREVENT ALLOW MEDIUM REMOVAL",
    "1e 00 00 00 03 00",
    allow=Allow.NO_MEDIUM,
    also=allowing,
)
def prevent_allow(unit: LogicalUnit, task: Task) -> None:
    """
    PREVENT ALLOW MEDIUM REMOVAL (MMC-6).

    Each nexus has a state of its own, PREVENT and PERSISTENT PREVENT; while one has
    either, the medium stays.  A reset and the end of the nexus end both.
    """
    del unit
    prevent = bool(task.cdb[4] & 1)
    if task.cdb[4] & 2:
        task.itl.prevents_persistently = prevent
    else:
        task.itl.prevents_removal = prevent


# Events.

_POWER, _BUSY = 2, 6
_CLASSES = (removable.OPERATIONAL, _POWER, removable.MEDIA, _BUSY)
_SUPPORTED = sum(1 << kind for kind in _CLASSES)


def _status(unit: LogicalUnit, itl: ITL, kind: int) -> bytes:
    """
    Return an event descriptor without its event code: three bytes.
    """
    if kind == removable.OPERATIONAL:
        persistent = any(one.prevents_persistently for one in unit.itls)
        changed = 1 if itl.events.get(kind) else 0  # FEATURE CHANGE
        return pack(">BH", 0x80 if persistent else 0, changed)
    if kind == _POWER:
        return b"\x01\0\0"  # active
    if kind == removable.MEDIA:
        tray = unit.part(removable.Tray)
        return bytes((tray.open | (0 if unit.stopped else 2), 0, 0))
    return b"\0\0\0"  # not busy


@COMMANDS.command(
    0x4A,
    "GET EVENT STATUS NOTIFICATION",
    "4a 01 00 00 ff 00 00 ff ff 00",
    allow=Allow.READY | Allow.PERSISTENT | Allow.ATTENTION,
)
def get_event_status_notification(unit: LogicalUnit, task: Task) -> bytes:
    """
    GET EVENT STATUS NOTIFICATION (MMC-6), polled.

    The first of the classes asked for that has an event tells it; where none has, the
    first that there is tells its status.
    """
    if not task.cdb[1] & 1:
        raise illegal_field(1, 0)  # only initiators that poll are told
    wanted, events = task.cdb[4], task.itl.events
    length = int.from_bytes(task.cdb[7:9], "big")
    found = [kind for kind in _CLASSES if wanted >> kind & 1]
    if not found:
        return pack(">HBB", 2, 0x80, _SUPPORTED)[:length]  # NEA
    chosen = next((kind for kind in found if kind in events), found[0])
    status = _status(unit, task.itl, chosen)
    code = events.get(chosen, 0)
    if length > 4:
        # Who asks for the header alone has not been told.
        events.pop(chosen, None)
    return pack(">HBBB3s", 6, chosen, _SUPPORTED, code, status)[:length]


@COMMANDS.command(
    0xBD,
    "MECHANISM STATUS",
    "bd 00 00 00 00 00 00 00 ff ff 00 00",
    allow=Allow.READY | Allow.WRITE_EXCLUSIVE,
)
def mechanism_status(unit: LogicalUnit, task: Task) -> bytes:
    """MECHANISM STATUS (MMC-6): no changer, an idle mechanism."""
    data = pack(">BB3xBH", 0, 0x10 if unit.part(removable.Tray).open else 0, 0, 0)
    return data[: int.from_bytes(task.cdb[8:10], "big")]
