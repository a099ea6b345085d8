# SPDX-License-Identifier: MIT
"""
PERSISTENT RESERVE IN (SPC-5, PERSISTENT RESERVE IN command): who is registered, who
holds the reservation, what can be done.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Run
from scstd.scsi.persistent import RULES
from scstd.scsi.sam import Task
from scstd.scsi.sense import ReservationConflict
from scstd.scsi.transport import registered_id
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_CRH, _SIP_C, _ATP_C, _PTPL_C = 0x10, 0x08, 0x04, 0x01
_TMV, _PTPL_A = 0x80, 0x01
_ALLOW_COMMANDS = 4 << 4
"""
TEST UNIT READY passes every type, MODE SENSE and the like pass Write Exclusive (the
table "ALLOW COMMANDS field", code 100b): as the rows of these commands have it.
"""


def _action(
    service_action: int, name: str
) -> Callable[[Callable[[LogicalUnit, Task], bytes]], Run]:
    """
    Declare the decorated function, which returns the parameter data, as a service
    action.
    """

    def declare(data: Callable[[LogicalUnit, Task], bytes]) -> Run:
        def run(unit: LogicalUnit, task: Task) -> bytes:
            if unit.reservation.holder is not None:
                # Even if it is our own (SPC-2 section 5.5.1).
                raise ReservationConflict
            return data(unit, task)[: int.from_bytes(task.cdb[7:9], "big")]

        return COMMANDS.command(
            0x5E,
            f"PERSISTENT RESERVE IN, {name}",
            "5e 1f 00 00 00 00 00 ff ff 00",
            service_action=service_action,
            allow=Allow.PERSISTENT | Allow.NO_MEDIUM | Allow.STANDBY,
        )(run)

    return declare


def _counted(unit: LogicalUnit, body: bytes) -> bytes:
    return pack(">II", unit.reservation.persistent.generation, len(body)) + body


@_action(0x00, "READ KEYS")
def read_keys(unit: LogicalUnit, _task: Task) -> bytes:
    """The key of each registered I_T nexus."""
    keys = unit.reservation.persistent.registrations.values()
    return _counted(unit, b"".join(key.to_bytes(8, "big") for key in keys))


@_action(0x01, "READ RESERVATION")
def read_reservation(unit: LogicalUnit, _task: Task) -> bytes:
    """The reservation and its holder's key: 0 where all registrants hold it."""
    state = unit.reservation.persistent
    if state.type is None:
        return _counted(unit, b"")
    key = 0 if state.holder is None else state.registrations[state.holder]
    return _counted(unit, pack(">QxxxxxBxx", key, state.type))


@_action(0x02, "REPORT CAPABILITIES")
def report_capabilities(unit: LogicalUnit, task: Task) -> bytes:
    """
    What of it all is supported: everything but REPLACE LOST RESERVATION, and SPEC_I_PT
    where the nexus' protocol has TransportIDs.
    """
    active = _PTPL_A if unit.reservation.persistent.aptpl else 0
    capable = _PTPL_C if unit.memory.durable else 0
    named = _SIP_C if task.itl.nexus.target.transport.has_transport_ids else 0
    types = sum(1 << (8 + kind if kind < 8 else kind - 8) for kind in RULES)
    return pack(
        ">HBBHxx",
        8,
        _CRH | named | _ATP_C | capable,
        _TMV | _ALLOW_COMMANDS | active,
        types,
    )


@_action(0x03, "READ FULL STATUS")
def read_full_status(unit: LogicalUnit, _task: Task) -> bytes:
    """Each registration: its key, whether it holds the reservation, its I_T nexus."""
    state = unit.reservation.persistent
    targets = {target.qualified_name: target for target in unit.targets}
    body = b""
    for it, key in state.registrations.items():
        port, name = it
        target = targets.get(name)
        holds = state.type is not None and state.holds(it)
        identifier = registered_id(port, name, targets)
        body += pack(
            ">QxxxxBBxxxxHI",
            key,
            1 if holds else 0,
            state.type or 0 if holds else 0,
            0 if target is None else target.relative_port,
            len(identifier),
        )
        body += identifier
    return _counted(unit, body)
