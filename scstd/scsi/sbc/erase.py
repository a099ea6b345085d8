# SPDX-License-Identifier: MIT
"""
The whole medium at once (SBC-4 section 5): FORMAT UNIT and SANITIZE.

What they start is in `background`.
"""

from __future__ import annotations

import attrs
from twisted.internet.defer import Deferred

from scstd.block.remembered import OPERATION, Job
from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome, list_out
from scstd.scsi.conditions import Unusable
from scstd.scsi.persistence import keep
from scstd.scsi.sam import Task
from scstd.scsi.sbc.background import failed, kind_of, start, under_way
from scstd.scsi.sense import illegal_field, illegal_parameter, list_length_error
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_FMTDATA, _LONGLIST = 0x10, 0x20
_FOV, _FORMAT_IMMED = 0x80, 0x02
_OPTIONS = 0x78  # DPRY, DCRT, STPF, IP
_IP = 0x08
_IMMED, _AUSE = 0x80, 0x20

_HOUR = 3600


def _erasable(unit: LogicalUnit) -> bool:
    return unit.erasable


def _run(unit: LogicalUnit, task: Task, job: Job, *, immediate: bool) -> Outcome:
    """
    Start *job*; with *immediate* answer when it is remembered, else at its end.
    """
    return start(unit, job, None if immediate else task)


def _format_data(unit: LogicalUnit, task: Task) -> int:  # noqa: ARG001 - as DataOut
    """
    Return the Data-Out of FORMAT UNIT: its CDB does not say, so what is sent; as there
    can be no defect list no more than a header.
    """
    return min(task.expected_length, 1024) if task.cdb[1] & _FMTDATA else 0


@COMMANDS.command(
    0x04,
    "FORMAT UNIT",
    "04 3f 00 00 00 00",
    writes=True,
    allow=Allow.FORMATTING,
    data_out=_format_data,
    timeout=_HOUR,
    exists=_erasable,
)
def format_unit(unit: LogicalUnit, task: Task) -> Outcome:
    """
    FORMAT UNIT (SBC-4 section 5.4): every block is zero afterwards, and deallocated
    where blocks can be.  A defect list, protection information and an initialization
    pattern are refused.
    """
    under_way(unit, task)
    flags = task.cdb[1]
    options = 0
    if flags & _FMTDATA:
        options = _format_options(bytes(task.data_out), long=bool(flags & _LONGLIST))
    elif flags & 0x2F:
        raise illegal_field(1, 5)
    job = Job("format")
    return _run(unit, task, job, immediate=bool(options & _FORMAT_IMMED))


def _format_options(data: bytes, *, long: bool) -> int:
    """
    Check a parameter list header (SBC-4 section 5.4.2); return its byte 1.
    """
    size = 8 if long else 4
    if len(data) < size:
        raise list_length_error()
    if data[0]:
        raise illegal_parameter(0, 2)
    options = data[1]
    if options & _OPTIONS and not options & _FOV:
        raise illegal_parameter(1, 7)
    for bit in (_IP, 0x04, 0x01):
        if options & bit:
            raise illegal_parameter(1, bit.bit_length() - 1)
    if any(data[2:size]):
        # A defect list: there is nowhere to put what would be behind it.
        raise illegal_parameter(4 if long else 2)
    return options


@COMMANDS.command(
    0x48,
    "SANITIZE/OVERWRITE",
    "48 bf 00 00 00 00 00 ff ff 00",
    service_action=0x01,
    writes=True,
    allow=Allow.FORMATTING | Allow.SANITIZING,
    data_out=list_out(7, 2),
    timeout=_HOUR,
    exists=_erasable,
)
def sanitize_overwrite(unit: LogicalUnit, task: Task) -> Outcome:
    """
    SANITIZE, OVERWRITE (SBC-4 section 5.24): a pattern over every block, 1 to 31 times,
    through the store: what keeps old copies below it is not reached.
    """
    length = int.from_bytes(task.cdb[7:9], "big")
    if not 4 < length < unit.block_size + 5:
        raise illegal_field(7, 7)
    data = bytes(task.data_out)
    if len(data) < length:
        raise list_length_error()
    size = int.from_bytes(data[2:4], "big")
    count = data[0] & 0x1F
    if data[0] & 0x60:
        raise illegal_parameter(0, 6)  # TEST
    if not count:
        raise illegal_parameter(0, 4)
    if data[1]:
        raise illegal_parameter(1, 7)
    if not 0 < size <= unit.block_size:
        raise illegal_parameter(2, 7)
    if size > length - 4:
        raise list_length_error()
    pattern = data[4 : 4 + size]
    job = Job("overwrite", pattern, count, bool(data[0] & 0x80))
    return _sanitize(unit, task, job)


@COMMANDS.command(
    0x48,
    "SANITIZE/CRYPTOGRAPHIC ERASE",
    "48 bf 00 00 00 00 00 ff ff 00",
    service_action=0x03,
    writes=True,
    allow=Allow.FORMATTING | Allow.SANITIZING,
    data_out=list_out(7, 2),
    timeout=_HOUR,
    exists=lambda unit: unit.erasable and unit.volume.thin,
)
@COMMANDS.command(
    0x48,
    "SANITIZE/BLOCK ERASE",
    "48 bf 00 00 00 00 00 ff ff 00",
    service_action=0x02,
    writes=True,
    allow=Allow.FORMATTING | Allow.SANITIZING,
    data_out=list_out(7, 2),
    timeout=_HOUR,
    exists=lambda unit: unit.erasable and unit.volume.thin,
)
def sanitize_block_erase(unit: LogicalUnit, task: Task) -> Outcome:
    """
    SANITIZE, BLOCK ERASE (SBC-4 section 5.24): every block is deallocated, and reads as
    zeros.

    CRYPTOGRAPHIC ERASE is the same: there is no key to change, and what it promises,
    that nothing can be read that was written before, takes the blocks themselves.
    """
    _no_parameters(task)
    return _sanitize(unit, task, Job("erase"))


@COMMANDS.command(
    0x48,
    "SANITIZE/EXIT FAILURE MODE",
    "48 bf 00 00 00 00 00 ff ff 00",
    service_action=0x1F,
    writes=True,
    allow=Allow.SANITIZING,
    data_out=list_out(7, 2),
    exists=_erasable,
)
def exit_failure_mode(unit: LogicalUnit, task: Task) -> Outcome:
    """
    SANITIZE, EXIT FAILURE MODE (SBC-4 section 5.24): a failed operation that was begun
    with AUSE=1 is taken for done; the medium has what it left.
    """
    _no_parameters(task)
    under_way(unit, task)
    job = failed(unit)
    if job is None or not kind_of(job).survives:
        return None
    if not job.unrestricted:
        raise illegal_field(1, 4)
    return Deferred.fromCoroutine(_excuse(unit))


async def _excuse(unit: LogicalUnit) -> None:
    await keep(unit, OPERATION, None)
    for condition in list(unit.conditions):
        if isinstance(condition, Unusable):
            unit.lift(condition)


def _no_parameters(task: Task) -> None:
    if any(task.cdb[7:9]):
        raise illegal_field(7, 7)


def _sanitize(unit: LogicalUnit, task: Task, job: Job) -> Outcome:
    under_way(unit, task)
    unrestricted = bool(task.cdb[1] & _AUSE)
    before = failed(unit)
    restricted = before and kind_of(before).survives and not before.unrestricted
    if restricted and unrestricted:
        # Nobody gets out of a restricted operation's failure by this.
        raise illegal_field(1, 5)
    job = attrs.evolve(job, unrestricted=unrestricted)
    return _run(unit, task, job, immediate=bool(task.cdb[1] & _IMMED))
