# SPDX-License-Identifier: MIT
"""
Diagnostics (SPC-5 section 6): SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome, list_out
from scstd.scsi.sam import Task
from scstd.scsi.selftest import ABORTED, SelfTest
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    illegal_field,
    illegal_parameter,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_ALLOW = Allow.NO_MEDIUM | Allow.STANDBY

_SELFTEST = 0x04
_PF = 0x10
_ABORT_BACKGROUND = 4

_TESTS: dict[int, tuple[bool, bool]] = {
    1: (True, False),
    2: (True, True),
    5: (False, False),
    6: (False, True),
}
"""SELF-TEST CODE: whether in the background, whether extended."""

PAGES = bytes((0x00,))
"""The diagnostic pages there are: the list of them."""


@COMMANDS.command(
    0x1D,
    "SEND DIAGNOSTIC",
    "1d f7 00 ff ff 00",
    allow=_ALLOW,
    data_out=list_out(3, 2),
    timeout=300,
)
def send_diagnostic(unit: LogicalUnit, task: Task) -> Outcome:
    """
    SEND DIAGNOSTIC (SPC-5, SEND DIAGNOSTIC command): the default self-test, a short or
    extended one in the foreground or the background, or a diagnostic page.
    """
    flags, length = task.cdb[1], int.from_bytes(task.cdb[3:5], "big")
    code = flags >> 5
    _check_flags(flags, code, length)
    tests = unit.self_tests
    if code == _ABORT_BACKGROUND:
        if not tests.abort(ABORTED):
            raise illegal_field(1, 7)
        return None
    if tests.running is not None:
        raise tests.running.sense(task.itl)
    if code:
        background, extended = _TESTS[code]
        if not background:
            return _verdict(tests.run(code, task, extended=extended))
        tests.begin(code, extended=extended)
    elif flags & _SELFTEST:
        return _verdict(tests.run(0, task, extended=False))
    elif length:
        _check_page(flags, bytes(task.data_out), length)
    return None


def _check_flags(flags: int, code: int, length: int) -> None:
    """
    See that not two things are asked for, and that the self-test code is one.
    """
    if code and code != _ABORT_BACKGROUND and code not in _TESTS:
        raise illegal_field(1, 7)
    if code and flags & _SELFTEST:
        raise illegal_field(1, 2)
    if (code or flags & _SELFTEST) and length:
        raise illegal_field(3, 7)


def _verdict(test: Deferred[SelfTest]) -> Deferred[None]:
    """
    Fail the command with what has failed in the test.
    """

    def over(test: SelfTest) -> None:
        if test.error is not None:
            raise CheckCondition(
                SenseKey.HARDWARE_ERROR, ASC.LOGICAL_UNIT_FAILED_SELF_TEST
            )

    return test.addCallback(over)


def _check_page(flags: int, data: bytes, length: int) -> None:
    """
    See that the page sent is the one there is, which asks for the list of pages.
    """
    if not flags & _PF:
        raise illegal_field(1, 4)
    if length < 4 or len(data) < length:
        raise list_length_error()
    if data[0] not in PAGES:
        raise illegal_parameter(0)
    if any(data[1:4]):
        raise illegal_parameter(1)
    if length > 4:
        raise list_length_error()


@COMMANDS.command(
    0x1C,
    "RECEIVE DIAGNOSTIC RESULTS",
    "1c 01 ff ff ff 00",
    allow=_ALLOW | Allow.WRITE_EXCLUSIVE,
)
def receive_diagnostic_results(unit: LogicalUnit, task: Task) -> bytes:
    """
    RECEIVE DIAGNOSTIC RESULTS (SPC-5, RECEIVE DIAGNOSTIC RESULTS command): the list of
    pages, asked for with PCV or by the last SEND DIAGNOSTIC: there is no other page.
    """
    del unit
    if task.cdb[1] & 1 and task.cdb[2] not in PAGES:
        raise illegal_field(2, 7)
    if not task.cdb[1] & 1 and task.cdb[2]:
        raise illegal_field(2, 7)
    data = bytes((0, 0)) + len(PAGES).to_bytes(2, "big") + PAGES
    return data[: int.from_bytes(task.cdb[3:5], "big")]
