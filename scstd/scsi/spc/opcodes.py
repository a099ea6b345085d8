# SPDX-License-Identifier: MIT
"""
What the unit can do (SPC-5 sections 6.35 and 6.36): REPORT SUPPORTED OPERATION CODES
and TASK MANAGEMENT FUNCTIONS, read off the tables.
"""

from __future__ import annotations

from struct import pack

from scstd.scsi.allow import Allow
from scstd.scsi.command import VARIABLE, Command, CommandSet, every
from scstd.scsi.sam import Task, TaskManagementFunction
from scstd.scsi.sense import illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


_SHOWS = Allow.WRITE_EXCLUSIVE | Allow.READY | Allow.STANDBY

_FUNCTION = TaskManagementFunction

_BITS: dict[TaskManagementFunction, tuple[int, int]] = {
    _FUNCTION.ABORT_TASK: (0, 0x80),  # ATS
    _FUNCTION.ABORT_TASK_SET: (0, 0x40),  # ATSS
    _FUNCTION.CLEAR_ACA: (0, 0x20),  # CACAS
    _FUNCTION.CLEAR_TASK_SET: (0, 0x10),  # CTSS
    _FUNCTION.LOGICAL_UNIT_RESET: (0, 0x08),  # LURS
    _FUNCTION.QUERY_TASK: (0, 0x04),  # QTS
    _FUNCTION.TARGET_WARM_RESET: (0, 0x02),  # TRS
    _FUNCTION.QUERY_ASYNCHRONOUS_EVENT: (1, 0x04),  # QAES
    _FUNCTION.QUERY_TASK_SET: (1, 0x02),  # QTSS
    _FUNCTION.I_T_NEXUS_RESET: (1, 0x01),  # ITNRS
}
"""The byte and the bit that tell of each function."""


_MEDIUM_SECONDS, _SECONDS = 60, 15


def recommended(row: Command) -> int:
    """
    Return how many seconds an initiator should wait: what the row says, else a minute
    for what moves data and 15 seconds for what does not.
    """
    if row.timeout:
        return row.timeout
    moves = row.extent is not None or row.writes
    return _MEDIUM_SECONDS if moves else _SECONDS


def _timeouts(row: Command) -> bytes:
    """
    Return a command timeouts descriptor (SPC-5 section 6.35.4): nothing is said of the
    nominal processing time.
    """
    return pack(">HxxII", 10, 0, recommended(row))


def usage_data(row: Command) -> bytes:
    """
    Return CDB USAGE DATA: operation code and service action as they are, else a one in
    every bit that is evaluated (SPC-5 section 6.35.3).
    """
    usage = bytearray(row.usage)
    action = row.service_action
    if action is None:
        return bytes(usage)
    if row.opcode == VARIABLE:
        usage[7] = len(usage) - 8
        usage[8:10] = action.to_bytes(2, "big")
    else:
        usage[1] = usage[1] & 0xE0 | action
    return bytes(usage)


def _all_commands(unit: LogicalUnit, *, timeouts: bool) -> bytes:
    body = b""
    for row in every(unit.commands):
        flags = (1 if row.service_action is not None else 0) | (2 if timeouts else 0)
        body += pack(">BxHxBH", row.opcode, row.service_action or 0, flags, row.length)
        body += _timeouts(row) if timeouts else b""
    return len(body).to_bytes(4, "big") + body


def _one_command(row: Command | None, *, timeouts: bool) -> bytes:
    if row is None:
        return bytes((0, 1, 0, 0))
    head = pack(">xBH", 3 | (0x80 if timeouts else 0), row.length)
    return head + usage_data(row) + (_timeouts(row) if timeouts else b"")


@COMMANDS.command(
    0xA3,
    "REPORT SUPPORTED OPERATION CODES",
    "a3 1f 87 ff ff ff ff ff ff ff 00 00",
    service_action=0x0C,
    allow=_SHOWS,
)
def report_supported_operation_codes(unit: LogicalUnit, task: Task) -> bytes:
    """
    REPORT SUPPORTED OPERATION CODES (SPC-5 section 6.35), read off the command table.
    """
    option, timeouts = task.cdb[2] & 7, bool(task.cdb[2] & 0x80)
    opcode, action = task.cdb[3], int.from_bytes(task.cdb[4:6], "big")
    length = int.from_bytes(task.cdb[6:10], "big")
    if option == 0:
        return _all_commands(unit, timeouts=timeouts)[:length]
    row = unit.commands.get(opcode)
    actions = row if isinstance(row, dict) else None
    if option == 1:
        if actions is not None:
            raise illegal_field(2, 2)
        one = row
    elif option == 2:
        if row is not None and actions is None:
            raise illegal_field(2, 2)
        one = None if actions is None else actions.get(action)
    elif option == 3:
        one = (
            actions.get(action) if actions is not None else row if action == 0 else None
        )
    else:
        raise illegal_field(2, 2)
    assert not isinstance(one, dict)
    return _one_command(one, timeouts=timeouts)[:length]


@COMMANDS.command(
    0xA3,
    "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
    "a3 1f 80 00 00 00 ff ff ff ff 00 00",
    service_action=0x0D,
    allow=_SHOWS,
)
def report_supported_tmfs(_unit: LogicalUnit, task: Task) -> bytes:
    """
    REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5 section 6.36): those that the
    nexus' target driver carries out.  There is no limit to how long one takes: it waits
    for the backstore.
    """
    length = int.from_bytes(task.cdb[6:10], "big")
    if length < 4:
        raise illegal_field(6, 7)
    data = bytearray(16 if task.cdb[2] & 0x80 else 4)
    data[3] = len(data) - 4
    for function in task.itl.nexus.functions & _BITS.keys():
        at, bit = _BITS[function]
        data[at] |= bit
    return bytes(data[:length])
