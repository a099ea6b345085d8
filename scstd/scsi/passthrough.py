# SPDX-License-Identifier: MIT
"""
A logical unit whose commands go to a device that takes whole CDBs (`ICommandDevice`).

The target keeps what only it can know, for the device sees one initiator: the task set
and task management, unit attentions of each nexus, REPORT LUNS, and reservations, those
of RESERVE and RELEASE and persistent ones (SCST's choice for its pass-through handlers,
too).  All else goes to the device as it came, INQUIRY with all its pages among it: the
unit's own names and mode pages are for lists only.

What the target does not know it cannot judge.  Another's reservation stops a command
that no table of ours knows, and so does a LUN that is read only.  A unit attention of
the device is every nexus's: the one whose command met it has it from the device, the
others from us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from scstd.interfaces import Asker, Buffer, CommandAnswer, ISessions
from scstd.scsi.allow import Allow
from scstd.scsi.asking import StoreSessions
from scstd.scsi.checked_device import CheckedDevice
from scstd.scsi.command import Command, CommandSet, Outcome
from scstd.scsi.kinds import CDROM, DISK, PRIMARY
from scstd.scsi.sam import ITL, BidirectionalTask, Status, Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, UnitAttention
from scstd.scsi.spc import inquiry, prin, prout, ready, reserve
from scstd.scsi.unit import LogicalUnit

MOST = 32 << 20
"""Bytes that one command may move: it is in memory, whole."""

_HARMLESS = frozenset((0x01, 0x05, 0x08, 0x0B, 0x11, 0x28, 0x2B, 0x88, 0x92, 0xA8))
"""Operation codes that write nothing on any device, and that not all our tables have:
READ, and of tapes REWIND, READ BLOCK LIMITS, SPACE and LOCATE (SSC-4)."""

_OURS = (reserve.COMMANDS, prin.COMMANDS, prout.COMMANDS)


@attrs.define(eq=False, slots=False, repr=False)
class PassThroughUnit(LogicalUnit):
    """
    Such a unit; its *device* is its store, too, which has no bytes.
    """

    _under_way: dict[Task, Asker] = attrs.field(factory=dict)

    @property
    def device(self) -> CheckedDevice:
        """The device."""
        device: Any = self.store
        assert isinstance(device, CheckedDevice)
        return device

    def pass_on(self, task: Task) -> Outcome:
        """
        Have the device carry out a task.
        """
        row = task.row
        assert row is not None
        assert self.sessions is not None
        if isinstance(task, BidirectionalTask):
            length = task.expected_in_length
        else:
            length = 0 if len(task.data_out) else task.expected_length
        asker = Asker(
            self.sessions.of(task.itl),
            row.opcode,
            row.name,
            task.tag,
            task.priority,
            task.internal,
        )
        self._under_way[task] = asker
        task.when_over(self._over_there)
        answer = self.device.execute(task.cdb, task.data_out, length, asker)
        if isinstance(answer, Deferred):
            taken: Deferred[Any] = answer.addCallback(self._take, task, length)
            return taken
        return self._take(answer, task, length)

    def _over_there(self, task: Task) -> None:
        self._under_way.pop(task, None)

    def _take(self, answer: CommandAnswer, task: Task, length: int) -> Buffer:
        """
        Take in how a command ended.
        """
        task.status = answer.status
        taken = len(task.data_out) - answer.residual
        if len(task.data_out):
            task.data_out_length = taken
        else:
            task.data_out_length = 0
        if answer.residual < 0 and length:
            task.data_in_length = length - answer.residual
        if answer.status == Status.CHECK_CONDITION:
            self._failed_there(answer, task)
        return answer.data_in

    def _failed_there(self, answer: CommandAnswer, task: Task) -> None:
        task.sense = sense = bytes(answer.sense)
        key, asc = _read(sense)
        condition = CheckCondition(key, asc)
        task.failure = condition
        row = task.row
        kind = row.kind if row is not None else 0
        self.statistics.failed(condition, self.volume.counters.by_kind[kind])
        if key is SenseKey.UNIT_ATTENTION:
            for itl in self.itls:
                if itl is not task.itl:
                    _tell(itl, asc)

    def abort(
        self,
        tasks: Iterable[Task],
        gone: Callable[[], None],
        *,
        by: ITL | None = None,
    ) -> None:
        """
        Abort tasks as any unit does, and have the device know.
        """
        doomed = list(tasks)
        super().abort(doomed, gone, by=by)
        for task in doomed:
            # Once, however often it is aborted.
            asker = self._under_way.pop(task, None)
            if asker is not None and not task.finished:
                self.device.abort(asker)

    def reset(self, gone: Callable[[], None], *, by: ITL | None = None) -> None:
        """
        Reset the unit, and the device.
        """
        left = 2

        def one(_: object = None) -> None:
            nonlocal left
            left -= 1
            if not left:
                gone()

        super().reset(one, by=by)
        done = self.device.reset()
        if isinstance(done, Deferred):
            done.addBoth(one)
        else:
            one()


def _tell(itl: ITL, asc: int) -> None:
    """
    Establish a unit attention of the device's for a nexus: any code there is.
    """
    found: Any = asc
    if UnitAttention(found) not in itl.attentions:
        itl.attentions.append(UnitAttention(found))


def _read(sense: bytes) -> tuple[SenseKey, int]:
    """
    Return sense key and additional sense code of sense data (SPC-5 section 4.4).
    """
    descriptor = sense[0] & 0x7F >= 0x72
    key = sense[1 if descriptor else 2] & 0x0F
    at = 2 if descriptor else 12
    known = key in {int(one) for one in SenseKey}
    return (
        SenseKey(key) if known else SenseKey.HARDWARE_ERROR,
        int.from_bytes(sense[at : at + 2], "big"),
    )


# The commands.


@attrs.frozen(eq=False)
class _Passed(Command):
    """
    The row of a command that goes to the device as it is.
    """

    def check_reserved(self, cdb: bytes) -> None:
        """Have no opinion."""
        del cdb


def _run(unit: LogicalUnit, task: Task) -> Outcome:
    assert isinstance(unit, PassThroughUnit)
    return unit.pass_on(task)


def _request_sense(unit: LogicalUnit, task: Task) -> Outcome:
    """REQUEST SENSE: a unit attention that the nexus has from us comes first."""
    if task.itl.attentions:
        return ready.request_sense(unit, task)
    return _run(unit, task)


def _expected(unit: LogicalUnit, task: Task) -> int:
    """
    Return how much Data-Out is collected: all that the initiator has.

    :raises CheckCondition: it expects to move more than anybody would keep for it.
    """
    del unit
    if task.expected_length > MOST:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT
        )
    return task.expected_length


def _row(opcode: int, known: Command | None) -> Command:
    """
    Return the row of a command; *known* is what a table of ours says of it.
    """
    return _Passed(
        opcode=opcode,
        service_action=None if known is None else known.service_action,
        name=f"opcode {opcode:02X}h" if known is None else known.name,
        usage=bytes((opcode,)) + b"\xff" * 15,
        run=_request_sense if opcode == 0x03 else _run,
        allow=Allow.NONE if known is None else known.allow,
        writes=opcode not in _HARMLESS if known is None else known.writes,
        extent=None,
        longest=None,
        data_out=_expected,
        exact=False,
        exists=lambda _unit: True,
        timeout=0,
        also=None if known is None else known.also,
        bidirectional=True,
    )


class PassedActions(dict[int, Command]):
    """
    Rows by service action: of those that are not ours, the device's.
    """

    def __init__(self, device_type: int, opcode: int) -> None:
        super().__init__()
        self._of = device_type, opcode

    def get(self, action: int, default: Any = None) -> Any:
        """Return the row of a service action; there is always one."""
        del default
        return super().get(action) or _passed(*self._of, action)


class PassedRows(dict[int, Command | dict[int, Command]]):
    """
    A command table that has a row for every operation code.
    """

    def __init__(self, device_type: int) -> None:
        super().__init__()
        self._type = device_type
        for one in _OURS:
            for row in one.rows:
                if row.service_action is None:
                    self[row.opcode] = row
                else:
                    self.setdefault(row.opcode)[row.service_action] = row
        for row in inquiry.COMMANDS.rows:
            if row.name == "REPORT LUNS":
                self[row.opcode] = row

    def get(self, opcode: int, default: Any = None) -> Any:
        """Return the row of an operation code, or its service actions'."""
        del default
        found = super().get(opcode)
        if found is not None:
            return found
        if any(key[0] == opcode for key in _known(self._type) if key[1] >= 0):
            return self.setdefault(opcode)
        made = self[opcode] = _passed(self._type, opcode, -1)
        return made

    def setdefault(self, opcode: int, default: Any = None) -> Any:
        """Return the rows of an operation code by service action."""
        del default
        if opcode not in self:
            self[opcode] = PassedActions(self._type, opcode)
        return self[opcode]


@lru_cache(maxsize=4096)
def _passed(device_type: int, opcode: int, action: int) -> Command:
    return _row(opcode, _known(device_type).get((opcode, action)))


@lru_cache(maxsize=32)
def _known(device_type: int) -> dict[tuple[int, int], Command]:
    """
    Return what our tables say of the commands of a type of device, by operation code
    and service action (-1 if there is none).
    """
    kinds = {kind.device_type: kind.sets for kind in (DISK, CDROM)}
    sets: tuple[CommandSet, ...] = kinds.get(device_type, PRIMARY)
    return {
        (row.opcode, -1 if row.service_action is None else row.service_action): row
        for one in sets
        for row in one.rows
    }


def begin(unit: LogicalUnit) -> None:
    """
    Give a unit that is being opened its commands, and its device its sessions.
    """
    assert isinstance(unit, PassThroughUnit)
    device: Any = unit.device
    told = device if ISessions.providedBy(device) else None
    unit.equip(PassedRows(unit.device.device_type), StoreSessions(told, asked=False))
