# SPDX-License-Identifier: MIT
"""
Asymmetric access (SPC-5 section 5.18): REPORT and SET TARGET PORT GROUPS.
"""

from __future__ import annotations

from struct import pack
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.scsi.allow import Allow
from scstd.scsi.alua import (
    COMMANDS,
    SETTABLE,
    AccessState,
    DeviceGroup,
    TargetPortGroup,
    TransitionRefused,
    not_accessible,
)
from scstd.scsi.command import Outcome
from scstd.scsi.sam import Task
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    illegal_field,
    illegal_parameter,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

__all__ = ["COMMANDS"]

_log = Logger()

_LONGEST = 4 + 4 * 256
"""Bytes of the longest parameter list of SET TARGET PORT GROUPS that is taken."""


def _devices(unit: LogicalUnit) -> DeviceGroup:
    """
    Return the device group of a unit.

    :raises CheckCondition: it has left it since the command arrived.
    """
    if unit.access is None:
        raise illegal_field(1, 4)
    return unit.access


@COMMANDS.command(
    0xA3,
    "REPORT TARGET PORT GROUPS",
    "a3 ff 00 00 00 00 ff ff ff ff 00 00",
    service_action=0x0A,
    allow=Allow.ANY & ~Allow.ATTENTION,
    exists=lambda unit: unit.access is not None,
)
def report_target_port_groups(unit: LogicalUnit, task: Task) -> bytes:
    """
    REPORT TARGET PORT GROUPS (SPC-5 section 6.37): header with the length only, or
    extended, with the implicit transition time.
    """
    devices = _devices(unit)
    style = task.cdb[1] >> 5
    if style > 1:
        raise illegal_field(1, 7)
    body = b"".join(group.descriptor() for group in devices.groups.values())
    if style:
        head = pack(">IBBxx", 4 + len(body), 0x10, min(devices.transition_time, 255))
    else:
        head = pack(">I", len(body))
    return (head + body)[: int.from_bytes(task.cdb[6:10], "big")]


def _list(unit: LogicalUnit, task: Task) -> int:  # noqa: ARG001 - as DataOut
    length = int.from_bytes(task.cdb[6:10], "big")
    if length > _LONGEST:
        raise illegal_field(6, 7)
    return length


@COMMANDS.command(
    0xA4,
    "SET TARGET PORT GROUPS",
    "a4 1f 00 00 00 00 ff ff ff ff 00 00",
    service_action=0x0A,
    allow=Allow.READY | Allow.STANDBY | Allow.UNAVAILABLE,
    data_out=_list,
    exists=lambda unit: unit.access is not None and unit.explicit_access,
)
def set_target_port_groups(unit: LogicalUnit, task: Task) -> Outcome:
    """
    SET TARGET PORT GROUPS (SPC-5 section 6.45): all of it is checked before anything is
    changed; the answer comes when the ports are in their new states.
    """
    devices = _devices(unit)
    data = bytes(task.data_out)
    length = task.data_out_length
    if not length:
        return None
    if len(data) < length or length < 4 or length % 4:
        raise list_length_error()
    wanted = {}
    for at in range(4, length, 4):
        state = data[at] & 0x0F
        group = devices.by_id(int.from_bytes(data[at + 2 : at + 4], "big"))
        if state not in SETTABLE:
            raise illegal_parameter(at, 3)
        if group is None:
            raise illegal_parameter(at + 2)
        if group.state is AccessState.TRANSITIONING:
            raise not_accessible(group.state)
        wanted[group] = AccessState(state)
    return Deferred.fromCoroutine(_set(devices, wanted, task))


async def _set(
    devices: DeviceGroup, wanted: dict[TargetPortGroup, AccessState], task: Task
) -> None:
    nexus = task.itl.nexus
    for group, state in wanted.items():
        task.itl.unit.report(
            "STPG_USER_INVOKE",
            device=task.itl.unit.name,
            device_group=devices.name,
            target_group=group.name,
            before=group.state.name.lower(),
            state=state.name.lower(),
            target=nexus.target.qualified_name,
            initiator=nexus.initiator,
        )
    before = {group: group.state for group in wanted}
    # All at once: where they exchange their states none waits for the other.
    changes = [
        devices.set_state(group, state, by=task) for group, state in wanted.items()
    ]
    results = await DeferredList(changes, consumeErrors=True)
    failures: list[Any] = [result for done, result in results if not done]
    for failure in failures:
        if not failure.check(TransitionRefused):
            _log.failure(
                "{devices}: a change failed", devices=devices.name, failure=failure
            )
    if failures:
        await _undo(devices, wanted, before, task)
        raise CheckCondition(
            SenseKey.HARDWARE_ERROR, ASC.SET_TARGET_PORT_GROUPS_COMMAND_FAILED
        )


async def _undo(
    devices: DeviceGroup,
    wanted: dict[TargetPortGroup, AccessState],
    before: dict[TargetPortGroup, AccessState],
    task: Task,
) -> None:
    """
    Put the groups that have changed already back: all of it happens, or nothing.
    """
    changes = [
        devices.set_state(group, before[group], by=task)
        for group, state in wanted.items()
        if group.state is state and before[group] is not state
    ]
    for done, failure in await DeferredList(changes, consumeErrors=True):
        if not done and isinstance(failure, Failure):
            _log.error(
                "{devices}: a change cannot be undone: {error}",
                devices=devices.name,
                error=failure.value,
            )
