# SPDX-License-Identifier: MIT
"""
The medium as a whole (SBC-4 section 5): READ CAPACITY, SYNCHRONIZE CACHE, PRE-FETCH,
START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.block.checked import StoreFault
from scstd.scsi import removable
from scstd.scsi.allow import Allow, allowing, starting
from scstd.scsi.command import CommandSet, Outcome, extent_10, extent_16
from scstd.scsi.sam import ITL, Status, Task
from scstd.scsi.sense import from_oserror, illegal_field
from scstd.scsi.sense_mapping import internal_failure, tell
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_READS = Allow.WRITE_EXCLUSIVE

_log = Logger()


@COMMANDS.command(
    0x25,
    "READ CAPACITY(10)",
    "25 00 ff ff ff ff 00 00 01 00",
    allow=Allow.PERSISTENT | Allow.STANDBY | Allow.SANITIZING,
)
def read_capacity_10(unit: LogicalUnit, task: Task) -> bytes:
    """READ CAPACITY(10) (SBC-4 section 5.20)."""
    if task.cdb[2:6] != b"\0\0\0\0" and not task.cdb[8] & 1:
        raise illegal_field(2, 7)
    return pack(">II", min(unit.blocks - 1, 0xFFFFFFFF), unit.block_size)


@COMMANDS.command(
    0x9E,
    "READ CAPACITY(16)",
    "9e 1f ff ff ff ff ff ff ff ff ff ff ff ff 01 00",
    service_action=0x10,
    allow=Allow.PERSISTENT | Allow.STANDBY | Allow.SANITIZING,
)
def read_capacity_16(unit: LogicalUnit, task: Task) -> bytes:
    """READ CAPACITY(16) (SBC-4 section 5.21)."""
    if task.cdb[2:10] != bytes(8) and not task.cdb[14] & 1:
        raise illegal_field(2, 7)
    thin = 0xC0 if unit.volume.thin else 0  # LBPME, LBPRZ
    data = pack(
        ">QIBBBx16x",
        unit.blocks - 1,
        unit.block_size,
        0,
        unit.volume.physical_exponent,
        thin,
    )
    return data[: int.from_bytes(task.cdb[10:14], "big")]


@COMMANDS.command(
    0x35,
    "SYNCHRONIZE CACHE(10)",
    "35 06 ff ff ff ff 1f ff ff 00",
    extent=extent_10,
)
@COMMANDS.command(
    0x91,
    "SYNCHRONIZE CACHE(16)",
    "91 06 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    extent=extent_16,
)
def synchronize_cache(unit: LogicalUnit, task: Task) -> Outcome:
    """
    SYNCHRONIZE CACHE (SBC-4 sections 5.33 and 5.34): the whole of it, whatever the
    range.  With IMMED it is begun; if it fails, the next one of the nexus says so.
    """
    itl = task.itl
    error, itl.unflushed = itl.unflushed, None
    if error is not None:
        raise error
    return flush(unit, itl if task.cdb[1] & 2 else None, task)


def flush(
    unit: LogicalUnit, later: ITL | None = None, task: Task | None = None
) -> Outcome:
    """
    Flush the store, for a *task* if somebody asks.  With a nexus to tell of an error
    *later*, do not wait for it.
    """

    def wrong(failure: Failure) -> None:
        error: Any = failure.value
        if failure.check(StoreFault):
            condition = internal_failure()
        else:
            failure.trap(OSError)
            condition = from_oserror(error, writing=True, lba=None)
            if task is None:
                _log.warn("{unit}: flush: {error}", unit=unit.name, error=error)
            else:
                tell(task, error, condition, task.lba)
        if later is None:
            raise condition from error
        if later in unit.itls:
            later.unflushed = condition

    call: Callable[[], Any] = unit.store.flush
    flushed: Deferred[Any] = maybeDeferred(call)
    flushed.addErrback(wrong)
    return None if later is not None else flushed


@COMMANDS.command(
    0x34,
    "PRE-FETCH(10)",
    "34 02 ff ff ff ff 1f ff ff 00",
    extent=extent_10,
    allow=_READS,
)
@COMMANDS.command(
    0x90,
    "PRE-FETCH(16)",
    "90 02 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00",
    extent=extent_16,
    allow=_READS,
)
def pre_fetch(unit: LogicalUnit, task: Task) -> Outcome:
    """
    PRE-FETCH (SBC-4 sections 5.11 and 5.12): CONDITION MET says that all of it fits in
    the store's cache, and is there, or with IMMED on its way.  A store that cannot
    prefetch answers GOOD: not all fits.
    """
    store = unit.volume.can.prefetches
    if store is None:
        return None
    length = (task.blocks or unit.blocks - task.lba) << unit.block_shift
    fits = min(length, store.prefetch_limit) >> unit.block_shift << unit.block_shift
    if not fits:
        return None
    done = store.prefetch(task.lba << unit.block_shift, fits)
    if fits == length:
        task.status = Status.CONDITION_MET
    if task.cdb[1] & 2 and isinstance(done, Deferred):
        # It is a hint, and what cannot be read is found when it is wanted.
        done.addErrback(lambda failure: failure.trap(OSError, StoreFault) and None)
        return None
    return done


@COMMANDS.command(
    0x1B,
    "START STOP UNIT",
    "1b 01 00 0f f7 00",
    allow=Allow.NO_MEDIUM,
    also=starting,
)
def start_stop_unit(unit: LogicalUnit, task: Task) -> Outcome:
    """
    START STOP UNIT (SBC-4 section 5.31).

    There is nothing to spin down: stopping flushes, and the medium stays ready, as in
    SCST.  A removable medium can be ejected and loaded again, which is told with a unit
    attention, unless a nexus prevents it.
    """
    condition, flags = task.cdb[4] >> 4, task.cdb[4]
    if condition:
        return None
    start, eject, no_flush = flags & 1, flags & 2, flags & 4
    if eject:
        if not unit.removable:
            raise illegal_field(4, 1)
        removable.check(unit)
        if start:
            return removable.load(unit, task.itl)
        return removable.eject(unit, task.itl, flush=not no_flush)
    if start or no_flush:
        return None
    return flush(unit)


@COMMANDS.command(
    0x1E,
    "PREVENT ALLOW MEDIUM REMOVAL",
    "1e 00 00 00 03 00",
    allow=Allow.NO_MEDIUM,
    also=allowing,
    exists=lambda unit: unit.removable,
)
def prevent_allow(unit: LogicalUnit, task: Task) -> None:
    """PREVENT ALLOW MEDIUM REMOVAL (SBC-4 section 5.13), for each nexus of its own."""
    del unit
    task.itl.prevents_removal = bool(task.cdb[4] & 1)
