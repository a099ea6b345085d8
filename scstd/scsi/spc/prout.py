# SPDX-License-Identifier: MIT
"""
PERSISTENT RESERVE OUT (SPC-5, PERSISTENT RESERVE OUT command): its parameter lists, and
how a change happens.

Commands change the state one after the other.  What is to survive a loss of power
(APTPL) is on the disk before the change happens: nobody ever sees a state that a crash
could take back, and if it cannot be kept there is no change.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.scsi import aca
from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome
from scstd.scsi.persistence import keep
from scstd.scsi.persistent import Change, ReservationState
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import (
    ReservationConflict,
    illegal_parameter,
    list_length_error,
)
from scstd.scsi.spc import prout_actions as actions
from scstd.scsi.spc.prout_actions import Action, PersistentReserveOut
from scstd.scsi.transport import initiator_of, is_port, parse_list
from scstd.scsi.unit import LogicalUnit

if TYPE_CHECKING:
    from scstd.scsi.target import Target

_log = Logger()

COMMANDS = CommandSet()

LONGEST = 64 << 10
"""Bytes of the longest parameter list: TransportIDs of some hundred initiators."""

_LIST = 24
"""Bytes of the parameter list without TransportIDs."""

_SPEC_I_PT, _ALL_TG_PT, _APTPL, _UNREG = 0x08, 0x04, 0x01, 0x02


@attrs.frozen
class ActionRow:
    """
    A service action: whether another's reservation stops it (SPC-5, table "PERSISTENT
    RESERVE OUT service actions that are allowed in the presence of various
    reservations"), and what it does.
    """

    code: int
    name: str
    allow: Allow
    action: Action


_ANY, _REGISTERED, _NOBODY = Allow.PERSISTENT, Allow.REGISTERED, Allow.NONE
_ABORTS = 0x05
_MOVES = 0x07

ROWS = (
    ActionRow(0x00, "REGISTER", _ANY, actions.register),
    ActionRow(0x01, "RESERVE", _NOBODY, actions.reserve),
    ActionRow(0x02, "RELEASE", _REGISTERED, actions.release),
    ActionRow(0x03, "CLEAR", _REGISTERED, actions.clear),
    ActionRow(0x04, "PREEMPT", _REGISTERED, actions.preempt),
    ActionRow(_ABORTS, "PREEMPT AND ABORT", _REGISTERED, actions.preempt),
    ActionRow(
        0x06,
        "REGISTER AND IGNORE EXISTING KEY",
        _ANY,
        actions.register_and_ignore,
    ),
    ActionRow(_MOVES, "REGISTER AND MOVE", _NOBODY, actions.register_and_move),
)
"""Every service action."""


def _length(unit: LogicalUnit, task: Task) -> int:  # noqa: ARG001 - as DataOut
    length = int.from_bytes(task.cdb[5:9], "big")
    if length > LONGEST:
        raise list_length_error()
    return length


def _request(unit: LogicalUnit, task: Task, code: int) -> PersistentReserveOut:
    """
    Return what a CDB and its parameter list ask for.

    :raises CheckCondition: the parameter list is malformed.
    """
    data = bytes(task.data_out)
    if len(data) < max(_LIST, task.data_out_length):
        raise list_length_error()
    request = PersistentReserveOut(
        it=unit.reservation.it(task.itl),
        key=int.from_bytes(data[:8], "big"),
        action_key=int.from_bytes(data[8:16], "big"),
        scope=task.cdb[2] >> 4,
        type=task.cdb[2] & 0x0F,
    )
    target = task.itl.nexus.target
    if code == _MOVES:
        return _moving(unit, target, request, data)
    flags = data[20]
    specifies = bool(flags & _SPEC_I_PT)
    if specifies and (code or not target.transport.has_transport_ids):
        raise illegal_parameter(20, 3)
    if not specifies and len(data) != _LIST:
        raise list_length_error()
    if code not in {0x00, 0x06}:
        return request
    request = attrs.evolve(request, aptpl=_aptpl(unit, data, 20), specifies=specifies)
    return _registering(
        unit, target, request, data, everywhere=bool(flags & _ALL_TG_PT)
    )


def _registering(
    unit: LogicalUnit,
    target: Target,
    request: PersistentReserveOut,
    data: bytes,
    *,
    everywhere: bool,
) -> PersistentReserveOut:
    """
    Add the I_T nexuses that SPEC_I_PT and ALL_TG_PT ask for: *target* is where the
    command came, and an initiator port is that of one protocol.
    """
    port, here = request.it
    ports = []
    if request.specifies:
        end = _end(data, 24, 28)
        for name in parse_list(target.transport, data, 28, end):
            ports += _ports(unit, name)
    targets = [here]
    if everywhere:
        targets += [
            one.qualified_name
            for one in _targets(unit)
            if one is not target and one.transport is target.transport
        ]
    specified = {(one, there): None for one in ports for there in targets}
    elsewhere = {(port, there): None for there in targets}
    others = dict.fromkeys((*elsewhere, *specified))
    for names in (others, specified):
        names.pop(request.it, None)
    return attrs.evolve(request, specified=frozenset(specified), others=tuple(others))


def _aptpl(unit: LogicalUnit, data: bytes, at: int) -> bool:
    """
    Return the APTPL bit of byte *at*, which a unit without a memory has to refuse.
    """
    asked = bool(data[at] & _APTPL)
    if asked and not unit.memory.durable:
        raise illegal_parameter(at, 0)
    return asked


def _targets(unit: LogicalUnit) -> list[Target]:
    """
    Return the targets at which the unit is to be seen.
    """
    return [one for one in unit.targets if unit in one.units()]


def _end(data: bytes, at: int, start: int) -> int:
    """
    Return where the TransportIDs end, whose length is in the four bytes at *at*.
    """
    if len(data) < start:
        raise list_length_error()
    end = start + int.from_bytes(data[at : at + 4], "big")
    if end > len(data):
        raise illegal_parameter(at)
    return end


def _ports(unit: LogicalUnit, name: str) -> list[str]:
    """
    Return the initiator ports that a name stands for: of a device, all that are known.
    """
    reservation = unit.reservation
    if is_port(name) or reservation.by_name:
        return [reservation.named(name)]
    known = [reservation.it(itl)[0] for itl in unit.itls]
    known += [port for port, _target in reservation.persistent.registrations]
    found = [port for port in dict.fromkeys(known) if initiator_of(port) == name]
    if not found:
        raise illegal_parameter(24)
    return found


def _moving(
    unit: LogicalUnit, target: Target, request: PersistentReserveOut, data: bytes
) -> PersistentReserveOut:
    """
    Add where REGISTER AND MOVE moves the reservation to: it came to *target*, and names
    the port in the way of the one where that is.
    """
    end = _end(data, 20, _LIST)
    relative = int.from_bytes(data[18:20], "big")
    targets = [one for one in _targets(unit) if one.relative_port == relative]
    transport = targets[0].transport if targets else target.transport
    name, behind = transport.parse_transport_id(data, _LIST, end)
    ports = _ports(unit, name)
    if behind != end or len(ports) != 1:
        raise illegal_parameter(_LIST)
    if not targets:
        raise illegal_parameter(18)
    return attrs.evolve(
        request,
        aptpl=_aptpl(unit, data, 17),
        unregister=bool(data[17] & _UNREG),
        destination=(ports[0], targets[0].qualified_name),
    )


def _run(row: ActionRow, unit: LogicalUnit, task: Task) -> Outcome:
    return Deferred.fromCoroutine(_change(row, unit, task))


async def _change(row: ActionRow, unit: LogicalUnit, task: Task) -> None:
    """
    Carry out one service action; those that came before it are over when it begins.
    """
    reservation = unit.reservation
    aborting: Deferred[None] | None = None
    await reservation.changing.acquire()
    try:
        if task.aborted:
            return
        if reservation.holder is not None:
            # Even if it is our own (SPC-2 section 5.5.1).
            raise ReservationConflict
        before = reservation.persistent
        request = _request(unit, task, row.code)
        change = row.action(before, request)
        if row.code == _ABORTS and not _all_hold(before):
            aca.check_preempting(task, _preempted(unit, change))
        if change.state is before:
            return
        await _keep(unit, before, change.state)
        reservation.apply(change)
        if row.code == _ABORTS:
            # Before the lock is free: commands that wait for it are to find out.
            aborting = _abort(unit, task, change)
            if _all_hold(before) and not request.action_key:
                aca.end_all(unit, but=task)
    finally:
        reservation.changing.release()
    if aborting is not None:
        await aborting


async def _keep(
    unit: LogicalUnit, before: ReservationState, after: ReservationState
) -> None:
    """
    Make the state after a change durable, if it is to be.

    :raises CheckCondition: it cannot be kept; what was kept before still is, for the
        memory takes back what may have been
        (`scstd.scsi.persistence.Persistence.update`).
    """
    kept = after.remembered()
    if kept == before.remembered():
        return
    await keep(unit, "persistent", kept)


def _all_hold(state: ReservationState) -> bool:
    """
    Say whether there is a persistent reservation of an all registrants type.
    """
    return state.rule is not None and state.rule.all_hold


def _preempted(unit: LogicalUnit, change: Change) -> list[ITL]:
    """
    Return the nexuses that a change preempts, as far as they are there.
    """
    return [itl for itl in unit.itls if unit.reservation.it(itl) in change.preempted]


def _abort(unit: LogicalUnit, task: Task, change: Change) -> Deferred[None]:
    """
    Abort the commands of the nexuses that were preempted, and clear what auto
    contingent allegiance they have; fire when no command can touch data any more.
    """
    over: Deferred[None] = Deferred()
    preempted = _preempted(unit, change)
    doomed = []
    for itl in preempted:
        itl.prevents_removal = False
        doomed += [one for one in unit.tasks_of(itl) if one is not task]
    for itl in unit.departing:
        # It is lost, and its tasks are aborted: but the store may be at work for them.
        if unit.reservation.it(itl) in change.preempted:
            doomed += [one for one in unit.tasks_of(itl) if one is not task]
    unit.abort(doomed, lambda: over.callback(None), by=task.itl)
    for itl in preempted:
        aca.end(itl, but=task)
    return over


for _row in ROWS:
    COMMANDS.command(
        0x5F,
        f"PERSISTENT RESERVE OUT, {_row.name}",
        "5f 1f ff 00 00 ff ff ff ff 00",
        service_action=_row.code,
        allow=_row.allow | Allow.NO_MEDIUM | Allow.STANDBY,
        data_out=_length,
    )(partial(_run, _row))
