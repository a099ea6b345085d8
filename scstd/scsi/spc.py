# SPDX-License-Identifier: MIT
"""
Primary commands (SPC-5 section 6): what every device answers.
"""

from __future__ import annotations

from scstd.scsi import mode, vpd
from scstd.scsi.command import Allow, Command, CommandSet, Outcome, list_out
from scstd.scsi.sam import Task
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    encode,
    illegal_field,
)
from scstd.scsi.unit import LogicalUnit

SPC = CommandSet()

_ANY = Allow.RESERVED | Allow.WRITE_EXCLUSIVE | Allow.ATTENTION | Allow.NO_MEDIUM
_READS = Allow.WRITE_EXCLUSIVE
_SHOWS = _READS | Allow.NO_MEDIUM


def _be(task: Task, at: int, size: int) -> int:
    return int.from_bytes(task.cdb[at : at + size], "big")


@SPC.command(0x00, "TEST UNIT READY", "00 00 00 00 00 00", allow=_READS)
def test_unit_ready(unit: LogicalUnit, task: Task) -> None:
    """TEST UNIT READY (SPC-5 section 6.47)."""


@SPC.command(
    0x03,
    "REQUEST SENSE",
    "03 01 00 00 ff 00",
    allow=_READS | Allow.NO_MEDIUM | Allow.ATTENTION,
)
def request_sense(unit: LogicalUnit, task: Task) -> bytes:
    """
    REQUEST SENSE (SPC-5 section 6.39).

    Sense data travels with its status (autosense), so there is none to ask for but a
    pending unit attention, which is reported here, and no more afterwards.
    """
    key, asc = SenseKey.NO_SENSE, int(ASC.NO_ADDITIONAL_SENSE_INFORMATION)
    if task.itl.attentions:
        key, asc = SenseKey.UNIT_ATTENTION, task.itl.attentions.pop(0).asc
    elif unit.stopped:
        key, asc = SenseKey.NOT_READY, unit.stopped
    sense = encode(CheckCondition(key, asc), descriptor=bool(task.cdb[1] & 1))
    return sense[: task.cdb[4]]


_VERSIONS = (0x00A0, 0x0960, 0x0460, 0x04C0)
"""Version descriptors: SAM-5, iSCSI, SPC-4, SBC-3 (SPC-5 section 6.7.2, table 154)."""


def standard_inquiry(unit: LogicalUnit) -> bytes:
    """
    Return standard INQUIRY data (SPC-5 section 6.7.2), 96 bytes.
    """
    data = bytearray(96)
    data[0] = unit.device_type
    data[1] = 0x80 if unit.removable else 0
    data[2] = 0x06
    data[3] = 0x12  # HISUP, RESPONSE DATA FORMAT 2
    data[4] = len(data) - 5
    data[6] = 0x10  # MULTIP: more than one target port can be
    data[7] = 0x02  # CMDQUE
    data[8:16] = unit.vendor.encode("ascii", "replace").ljust(8)[:8]
    data[16:32] = unit.product.encode("ascii", "replace").ljust(16)[:16]
    data[32:36] = unit.revision.encode("ascii", "replace").ljust(4)[:4]
    for position, version in enumerate(_VERSIONS):
        data[58 + 2 * position : 60 + 2 * position] = version.to_bytes(2, "big")
    return bytes(data)


ABSENT = bytes((0x7F, 0, 0x06, 0x12, 31)) + bytes(3) + b"SCSTD   ".ljust(28)
"""Standard INQUIRY data of a logical unit that is not there."""


@SPC.command(0x12, "INQUIRY", "12 01 ff ff ff 00", allow=_ANY)
def inquiry(unit: LogicalUnit, task: Task) -> bytes:
    """INQUIRY (SPC-5 section 6.7)."""
    length = _be(task, 3, 2)
    if task.cdb[1] & 1:
        return vpd.page(unit, task.cdb[2], task.itl)[:length]
    if task.cdb[2]:
        raise illegal_field(2, 7)
    return standard_inquiry(unit)[:length]


@SPC.command(0xA0, "REPORT LUNS", "a0 00 ff 00 00 00 ff ff ff ff 00 00", allow=_ANY)
def report_luns(unit: LogicalUnit, task: Task) -> bytes:  # noqa: ARG001
    """
    REPORT LUNS (SPC-5 section 6.33): select report 0 and 2 the LUNs there are, 1 the
    well known logical units, of which there are none.
    """
    select, length = task.cdb[2], _be(task, 6, 4)
    if select > 2:
        raise illegal_field(2, 7)
    if length < 16:
        raise illegal_field(6, 7)
    nexus = task.itl.nexus
    luns = [] if select == 1 else sorted(nexus.itls)
    fields = b"".join(
        ((lun if lun < 256 else 0x4000 | lun) << 48).to_bytes(8, "big") for lun in luns
    )
    return (len(fields).to_bytes(4, "big") + bytes(4) + fields)[:length]


@SPC.command(0x1A, "MODE SENSE(6)", "1a 08 ff ff ff 00", allow=_SHOWS)
def mode_sense_6(unit: LogicalUnit, task: Task) -> bytes:
    """MODE SENSE(6) (SPC-5 section 6.14)."""
    return mode.sense(unit, task, long=False)[: task.cdb[4]]


@SPC.command(0x5A, "MODE SENSE(10)", "5a 18 ff ff 00 00 00 ff ff 00", allow=_SHOWS)
def mode_sense_10(unit: LogicalUnit, task: Task) -> bytes:
    """MODE SENSE(10) (SPC-5 section 6.15)."""
    return mode.sense(unit, task, long=True)[: _be(task, 7, 2)]


@SPC.command(
    0x15,
    "MODE SELECT(6)",
    "15 11 00 00 ff 00",
    allow=Allow.NO_MEDIUM,
    data_out=list_out(4, 1),
)
def mode_select_6(unit: LogicalUnit, task: Task) -> Outcome:
    """MODE SELECT(6) (SPC-5 section 6.12)."""
    return mode.select(unit, task, task.cdb[4], long=False)


@SPC.command(
    0x55,
    "MODE SELECT(10)",
    "55 11 00 00 00 00 00 ff ff 00",
    allow=Allow.NO_MEDIUM,
    data_out=list_out(7, 2),
)
def mode_select_10(unit: LogicalUnit, task: Task) -> Outcome:
    """MODE SELECT(10) (SPC-5 section 6.13)."""
    return mode.select(unit, task, _be(task, 7, 2), long=True)


@SPC.command(0x1D, "SEND DIAGNOSTIC", "1d 04 00 00 00 00")
def send_diagnostic(unit: LogicalUnit, task: Task) -> None:  # noqa: ARG001
    """SEND DIAGNOSTIC (SPC-5 section 6.43): the default self-test, which passes."""
    if not task.cdb[1] & 4:
        raise illegal_field(1, 2)


@SPC.command(0x16, "RESERVE(6)", "16 00 00 00 00 00", allow=Allow.NO_MEDIUM)
def reserve_6(unit: LogicalUnit, task: Task) -> None:
    """RESERVE(6) (SPC-2 section 7.21): the whole logical unit."""
    unit.reservation.reserve(task.itl)


@SPC.command(
    0x17, "RELEASE(6)", "17 00 00 00 00 00", allow=Allow.RESERVED | Allow.NO_MEDIUM
)
def release_6(unit: LogicalUnit, task: Task) -> None:
    """RELEASE(6) (SPC-2 section 7.16)."""
    unit.reservation.release(task.itl)


@SPC.command(
    0x56, "RESERVE(10)", "56 00 00 00 00 00 00 00 00 00", allow=Allow.NO_MEDIUM
)
def reserve_10(unit: LogicalUnit, task: Task) -> None:
    """RESERVE(10) (SPC-2 section 7.22)."""
    unit.reservation.reserve(task.itl)


@SPC.command(
    0x57,
    "RELEASE(10)",
    "57 00 00 00 00 00 00 00 00 00",
    allow=Allow.RESERVED | Allow.NO_MEDIUM,
)
def release_10(unit: LogicalUnit, task: Task) -> None:
    """RELEASE(10) (SPC-2 section 7.17)."""
    unit.reservation.release(task.itl)


_TIMEOUTS = (10).to_bytes(2, "big") + bytes(2) + bytes(8)
"""A command timeouts descriptor that names no timeouts (SPC-5 section 6.35.4)."""


def _all_commands(unit: LogicalUnit, *, timeouts: bool) -> bytes:
    rows: list[Command] = []
    for _opcode, row in sorted(unit.commands.items()):
        rows.extend(row.values() if isinstance(row, dict) else [row])
    body = b""
    for one in rows:
        flags = (1 if one.service_action is not None else 0) | (2 if timeouts else 0)
        body += bytes((one.opcode, 0))
        body += (one.service_action or 0).to_bytes(2, "big")
        body += bytes((0, flags)) + one.length.to_bytes(2, "big")
        body += _TIMEOUTS if timeouts else b""
    return len(body).to_bytes(4, "big") + body


def _one_command(row: Command | None, *, timeouts: bool) -> bytes:
    if row is None:
        return bytes((0, 1, 0, 0))
    usage = row.usage
    head = bytes((0, 3 | (0x80 if timeouts else 0)))
    return (
        head + len(usage).to_bytes(2, "big") + usage + (_TIMEOUTS if timeouts else b"")
    )


@SPC.command(
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
    opcode, action = task.cdb[3], _be(task, 4, 2)
    length = _be(task, 6, 4)
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


@SPC.command(
    0xA3,
    "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
    "a3 1f 80 00 00 00 ff ff ff ff 00 00",
    service_action=0x0D,
    allow=_SHOWS,
)
def report_supported_tmfs(unit: LogicalUnit, task: Task) -> bytes:  # noqa: ARG001
    """
    REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5 section 6.36): ABORT TASK, ABORT
    TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET and TARGET RESET; I_T NEXUS RESET.
    """
    length = _be(task, 6, 4)
    if length < 4:
        raise illegal_field(6, 7)
    data = bytes((0x80 | 0x40 | 0x10 | 0x08 | 0x02, 0x01, 0, 0))
    if task.cdb[2] & 0x80:
        data = data[:3] + bytes((12,)) + bytes(12)
    return data[:length]
