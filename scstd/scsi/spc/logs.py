# SPDX-License-Identifier: MIT
"""
The log pages, as rows (SPC-5 section 7.3, SBC-4 section 6.4).

What the unit cannot know is not made up: there is no temperature (FFh says so), and
nothing is corrected here, so those counters are zero.  The two weighted counts of the
Statistics and Performance page are zero too: how many commands there are in each
microsecond is nothing that anybody counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import pack

from twisted.internet.defer import Deferred

from scstd.block.counters import IOKind
from scstd.interfaces import Result
from scstd.scsi.spc.log import BinaryParameter, Count, LogPage, declare
from scstd.scsi.spc.pages import threshold_exponent
from scstd.scsi.unit import LogicalUnit

NO_TEMPERATURE = 0xFF

INTERVAL = 6
"""The negative power of ten of a time interval in seconds: a microsecond."""


def _disk(unit: LogicalUnit) -> bool:
    return unit.device_type == 0


def _zero(_unit: LogicalUnit) -> int:
    return 0


def _errors(kind: IOKind) -> tuple[Count, ...]:
    """
    Return the parameters of an error counter page (SPC-5, Error counter log pages):
    0000h to 0004h count what was corrected.
    """

    def length(unit: LogicalUnit) -> int:
        return unit.volume.counters.by_kind[kind].blocks << unit.block_shift

    def uncorrected(unit: LogicalUnit) -> int:
        return unit.volume.counters.by_kind[kind].errors

    return (
        *(Count(code, 4, _zero) for code in range(5)),
        Count(0x0005, 8, length),
        Count(0x0006, 4, uncorrected),
    )


def _self_test(number: int, unit: LogicalUnit) -> bytes:
    """
    Return one entry of the Self-Test Results page: zeros where there was no test.
    """
    results = unit.self_tests.results
    if number >= len(results):
        return bytes(16)
    test = results[number]
    return pack(
        ">BBHQBBBx",
        test.code << 5 | test.result,
        0,
        min(test.hours, 0xFFFF),
        0xFFFFFFFFFFFFFFFF if test.lba < 0 else test.lba,
        test.key,
        test.asc >> 8,
        test.asc & 0xFF,
    )


def _counted(kind: IOKind, name: str) -> Callable[[LogicalUnit], int]:
    return lambda unit: int(getattr(unit.volume.counters.by_kind[kind], name))


def _access(unit: LogicalUnit) -> bytes:
    """
    General access statistics: commands and blocks, read and written, and the intervals
    in which that was done.
    """
    counters = unit.volume.counters
    reads, writes = counters.reads, counters.writes
    return pack(
        ">QQQQQQ16x",
        *(reads.requests, writes.requests, writes.blocks, reads.blocks),
        *(_intervals(reads.seconds), _intervals(writes.seconds)),
    )


def _intervals(seconds: float) -> int:
    return int(seconds * 10**INTERVAL)


def _has_space(unit: LogicalUnit) -> bool:
    return _disk(unit) and threshold_exponent(unit) > 0


def _look(unit: LogicalUnit) -> Result[None]:
    """
    Ask the store for its space.
    """
    space = unit.volume.ask_space()
    return space.addCallback(lambda _: None) if isinstance(space, Deferred) else None


def _sets(unit: LogicalUnit, length: int) -> bytes:
    """
    Return a resource count, in threshold sets, of resources that others may use too.
    """
    count = length >> unit.block_shift + threshold_exponent(unit)
    return pack(">IBxxx", min(count, 0xFFFFFFFF), 0x02)


def _available(unit: LogicalUnit) -> bytes:
    used, total = unit.volume.space
    return _sets(unit, max(0, total - used))


def _used(unit: LogicalUnit) -> bytes:
    return _sets(unit, unit.volume.space[0])


declare(
    LogPage(0x02, "Write Error Counters", _errors(IOKind.WRITE), exists=_disk),
    LogPage(0x03, "Read Error Counters", _errors(IOKind.READ), exists=_disk),
    LogPage(0x05, "Verify Error Counters", _errors(IOKind.VERIFY), exists=_disk),
    LogPage(
        0x06,
        "Non-Medium Error",
        (Count(0x0000, 4, lambda unit: unit.statistics.non_medium),),
    ),
    LogPage(
        0x0C,
        "Logical Block Provisioning",
        (BinaryParameter(0x0001, _available), BinaryParameter(0x0002, _used)),
        exists=_has_space,
        before=_look,
    ),
    LogPage(
        0x0D,
        "Temperature",
        (BinaryParameter(0x0000, lambda _: bytes((0, NO_TEMPERATURE))),),
    ),
    LogPage(
        0x0E,
        "Start-Stop Cycle Counter",
        (
            BinaryParameter(
                0x0004, lambda unit: unit.statistics.starts.to_bytes(4, "big")
            ),
        ),
        exists=_disk,
    ),
    LogPage(
        0x0E,
        "Utilization",
        # What files and memory are made of does not wear out by being used.
        tuple(BinaryParameter(code, lambda _: bytes(2)) for code in (0x0000, 0x0001)),
        subpage=0x01,
        exists=_disk,
    ),
    LogPage(
        0x10,
        "Self-Test Results",
        tuple(
            BinaryParameter(1 + number, partial(_self_test, number))
            for number in range(20)
        ),
    ),
    LogPage(
        0x19,
        "General Statistics and Performance",
        (
            BinaryParameter(0x0001, _access),
            BinaryParameter(
                0x0002, lambda unit: pack(">Q", _intervals(unit.volume.counters.idle))
            ),
            # The time interval: 1 times 10 to the power of -6 seconds.
            BinaryParameter(0x0003, lambda _: pack(">II", INTERVAL, 1)),
        ),
        exists=_disk,
    ),
    LogPage(
        0x2F,
        "Informational Exceptions",
        (BinaryParameter(0x0000, lambda _: bytes((0, 0, NO_TEMPERATURE, 0xFF))),),
    ),
)
