# SPDX-License-Identifier: MIT
"""
How copies are and were (SPC-5 sections 6.20 to 6.26 and 6.31): the service actions of
84h, which ask about an operation by its list identifier.
"""

from __future__ import annotations

from struct import pack

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet
from scstd.scsi.copy import limits
from scstd.scsi.copy.extended import managed
from scstd.scsi.copy.operations import DONE, FAILED, PARTIAL, CopyOperation
from scstd.scsi.sam import Task
from scstd.scsi.sense import illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_LID1 = "84 1f ff 00 00 00 00 00 00 00 ff ff ff ff 00 00"
_LID4 = "84 1f ff ff ff ff 00 00 00 00 ff ff ff ff 00 00"
_NO_ID = "84 1f 00 00 00 00 00 00 00 00 ff ff ff ff 00 00"

_SOON = 100
"""Milliseconds after which it is worth asking again."""

_OVER, _BLOCKS, _MEBIBYTES = 0xFFFFFFFE, 0xF1, 0x02


def _allocation(task: Task) -> int:
    return int.from_bytes(task.cdb[10:14], "big")


def _operation(task: Task, size: int) -> CopyOperation:
    """
    Return the operation named by a list identifier of *size* bytes.

    :raises CheckCondition: there is none, or what was to be told of it was told.
    """
    found = task.itl.copies.get(int.from_bytes(task.cdb[2 : 2 + size], "big"))
    if found is None or task.cdb[1] & 0x1F in found.told:
        raise illegal_field(2)
    return found


def _header(one: CopyOperation, more: bytes = b"") -> bytes:
    """
    Return the shared third-party copy status header (SPC-5 table 248), and *more*.
    """
    sense = one.sense + bytes(-len(one.sense) % 4)
    count = one.transferred // one.in_blocks if one.in_blocks else one.transferred
    segments = one.segments if one.service_action < 0x10 else 0
    body = pack(
        ">BBHIBBBBQH6x",
        one.service_action,
        one.state,
        one.commands & 0xFFFF,
        _SOON if one.running else _OVER,
        one.status,
        len(sense),
        len(one.sense),
        _BLOCKS if one.in_blocks else 0,
        count,
        segments,
    )
    body += sense + more
    return len(body).to_bytes(4, "big") + body


@COMMANDS.command(
    0x84,
    "RECEIVE COPY STATUS(LID1)",
    _LID1,
    service_action=0x00,
    allow=Allow.READY | Allow.PERSISTENT,
    exists=managed,
)
def receive_copy_status_1(unit: LogicalUnit, task: Task) -> bytes:
    """RECEIVE COPY STATUS(LID1) (SPC-5 section 6.25): told once after the end."""
    del unit
    one = _operation(task, 1)
    if not one.running:
        one.told.add(0x00)
    state = 0 if one.running else 1 if one.state == DONE else 2
    units, count = 0, one.transferred
    if count >> 32:
        units, count = _MEBIBYTES, count >> 20
    data = pack(">IBHBI", 8, state, one.segments, units, count)
    return data[: _allocation(task)]


@COMMANDS.command(
    0x84,
    "RECEIVE COPY DATA(LID1)",
    _LID1,
    service_action=0x01,
    allow=Allow.READY | Allow.PERSISTENT,
    exists=managed,
)
def receive_copy_data_1(unit: LogicalUnit, task: Task) -> bytes:
    """RECEIVE COPY DATA(LID1) (SPC-5 section 6.21): no segment here holds data."""
    del unit
    if _operation(task, 1).running:
        raise illegal_field(2)
    return bytes(4)[: _allocation(task)]


@COMMANDS.command(
    0x84,
    "RECEIVE COPY OPERATING PARAMETERS",
    _NO_ID,
    service_action=0x03,
    allow=Allow.READY | Allow.PERSISTENT,
    exists=managed,
)
def receive_copy_operating_parameters(unit: LogicalUnit, task: Task) -> bytes:
    """RECEIVE COPY OPERATING PARAMETERS (SPC-5 section 6.22)."""
    del unit
    types = bytes(limits.DESCRIPTOR_TYPES)
    body = pack(
        ">B3xHHIIIII2xHBBBB3xB",
        1,  # SNLID
        limits.MOST_CSCDS,
        limits.MOST_SEGMENTS,
        limits.MOST_LIST,
        limits.MOST_SEGMENT_BYTES,
        0,  # no inline data
        0,  # no held data
        0,  # no stream devices
        limits.MOST_COPIES,
        limits.MOST_COPIES,
        limits.GRANULARITY,
        0,
        0,
        len(types),
    )
    body += types
    return (len(body).to_bytes(4, "big") + body)[: _allocation(task)]


@COMMANDS.command(
    0x84,
    "RECEIVE COPY FAILURE DETAILS(LID1)",
    _LID1,
    service_action=0x04,
    allow=Allow.READY | Allow.PERSISTENT,
    exists=managed,
)
def receive_copy_failure_details(unit: LogicalUnit, task: Task) -> bytes:
    """RECEIVE COPY FAILURE DETAILS(LID1) (SPC-5 section 6.23)."""
    del unit
    one = _operation(task, 1)
    if one.running or one.service_action:
        raise illegal_field(2)
    allocation = _allocation(task)
    if one.state == FAILED:
        body = pack(">52xBxH", one.status, len(one.sense)) + one.sense
    else:
        body = b""
    data = len(body).to_bytes(4, "big") + body
    if not allocation or allocation >= len(data):
        one.told.add(0x04)
    return data[:allocation]


@COMMANDS.command(
    0x84,
    "RECEIVE COPY STATUS(LID4)",
    _LID4,
    service_action=0x05,
    allow=Allow.READY | Allow.PERSISTENT,
    exists=managed,
)
def receive_copy_status_4(unit: LogicalUnit, task: Task) -> bytes:
    """RECEIVE COPY STATUS(LID4) (SPC-5 section 6.24)."""
    del unit
    return _header(_operation(task, 4))[: _allocation(task)]


@COMMANDS.command(
    0x84,
    "RECEIVE COPY DATA(LID4)",
    _LID4,
    service_action=0x06,
    allow=Allow.READY | Allow.PERSISTENT,
    exists=managed,
)
def receive_copy_data_4(unit: LogicalUnit, task: Task) -> bytes:
    """RECEIVE COPY DATA(LID4) (SPC-5 section 6.20): no segment here holds data."""
    del unit
    return _header(_operation(task, 4), bytes(4))[: _allocation(task)]


@COMMANDS.command(
    0x84,
    "RECEIVE ROD TOKEN INFORMATION",
    _LID4,
    service_action=0x07,
    allow=Allow.READY | Allow.PERSISTENT,
    exists=managed,
)
def receive_rod_token_information(unit: LogicalUnit, task: Task) -> bytes:
    """
    RECEIVE ROD TOKEN INFORMATION (SPC-5 section 6.26, SBC-4 section 5.25): a token is
    handed out once.
    """
    del unit
    one = _operation(task, 4)
    tokens = b"\0\0" + one.token if one.token and one.state in {DONE, PARTIAL} else b""
    data = _header(one, len(tokens).to_bytes(4, "big") + tokens)
    allocation = _allocation(task)
    if not one.running and (not allocation or allocation >= len(data)):
        one.token = b""
    return data[:allocation]


@COMMANDS.command(
    0x84,
    "REPORT ALL ROD TOKENS",
    _NO_ID,
    service_action=0x08,
    allow=Allow.READY | Allow.PERSISTENT,
    exists=managed,
)
def report_all_rod_tokens(unit: LogicalUnit, task: Task) -> bytes:
    """REPORT ALL ROD TOKENS (SPC-5 section 6.31): those of this unit."""
    assert unit.copies is not None
    body = bytes(4) + b"".join(unit.copies.tokens.management_tokens(unit))
    return (len(body).to_bytes(4, "big") + body)[: _allocation(task)]
