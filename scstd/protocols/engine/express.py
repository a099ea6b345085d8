# SPDX-License-Identifier: MIT
"""
The express way of reads and writes: from the bytes that came to those that answer them,
in one function.

READ and WRITE of 10 and 16 bytes, one PDU each way, are nearly all that a session has
to do, and each layer on their way has its own question to them, which nearly always has
the same answer.  `take` asks all of them itself, of commands that lie in the buffer
whole: and where one answer is not the usual one it leaves that command, as it is, to
the general way, which finds it where it was.  So there is no rule here that is not
elsewhere: only the proof that it would change nothing.

Whether there is something special at a connection at all (taps, recovery, fences, the
end) is known beforehand (`Connection.look_again`); the same of the logical unit is in
`scstd.scsi.express`.  A command that the store answers at once is no `Task`, unless
somebody looks for one while the store is called (`scstd.scsi.calling`).  One that is
answered later is from then on what it would be by the general way.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer
from scstd.protocols.engine.outlet import OUTPUT_BATCH
from scstd.protocols.engine.phase import Phase
from scstd.protocols.engine.response import respond
from scstd.protocols.wire.codes import RESERVED_TAG
from scstd.protocols.wire.digest import DIGEST_LENGTH, digest
from scstd.protocols.wire.framing import COPY_BELOW
from scstd.protocols.wire.pdu import BHS_LENGTH, SCSICommand
from scstd.protocols.wire.serial import MASK
from scstd.scsi.express import (
    OPCODES,
    READS,
    UNMEASURED,
    WRITES,
    Express,
    express,
)
from scstd.scsi.sam import Task

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.scsi.calling import Calling

_HEAD = Struct(">HxxIQIII4xHII").unpack_from
"""
Of a SCSI Command: its first two bytes, TotalAHSLength and DataSegmentLength, LUN, tag,
expected length, CmdSN; the first two bytes of the CDB, and of one of 10 bytes the LBA
and the rest: group number, blocks, CONTROL byte.
"""

_CDB_16 = Struct(">QIH").unpack_from
"""LBA, blocks, and the rest, behind the first two bytes of a CDB of 16 bytes."""

_CDB = 32
"""Where the CDB is in a SCSI Command."""

_READ = (0x01C1, 0x01C0)
_WRITE = (0x01A1, 0x01A0)
"""
The first two bytes of the PDU: a command that is not immediate, with all that comes
unasked; which way its data goes; SIMPLE or untagged.
"""

_DATA_IN = Struct(">II8xIIIII12x").pack
_RESPONSE = Struct(">I12xI4xIII12x").pack
"""A `DataIn` and a `SCSIResponse` whose other fields are zeros."""

_WITH_STATUS = 0x25810000
_GOOD = 0x21800000
"""Their first four bytes: the last Data-In PDU, with GOOD status; a response of it."""


def way_of(connection: Connection) -> Callable[[Connection], None] | None:
    """
    Return what takes the usual commands of a connection, None if there is something
    special at it.
    """
    usual = (
        connection.phase == Phase.NORMAL
        and connection.session is not None
        and not connection.over
        and connection.direct
        and connection.recovery is None
        and connection.responder is respond
    )
    return take if usual else None


def take(connection: Connection) -> None:  # noqa: C901, PLR0912, PLR0915 - as it says
    """
    Answer the usual commands that lie in the buffer now, up to the first that is not
    one.  A call more for each of them would cost a tenth.
    """
    framer = connection.framer
    buffer, at = framer.buffer, framer.at
    there = len(buffer)
    if there - at < BHS_LENGTH or buffer[at + _CDB] not in OPCODES or buffer[at] != 1:
        # Nearly always seen here, if it is seen: other commands pay little.
        return
    session = connection.session
    assert session is not None
    ordering = session.ordering
    if ordering.held or ordering.deferred:
        # What waits may be next.
        return
    window = ordering.window
    tasks = session.tasks
    luns = session.nexus.luns
    reads = session.reads
    parameters = connection.parameters
    header_digest = connection.header_digest
    data_digest = connection.data_digest
    digests = header_digest or data_digest
    last = -1
    way: Express = None  # type: ignore[assignment]
    calling: Calling = None  # type: ignore[assignment]
    try:
        while connection.output_bytes < OUTPUT_BATCH and connection.express is take:
            end = at + BHS_LENGTH
            if end > there:
                break
            head, lengths, lun, itt, expected, cmd_sn, operation, lba, rest = _HEAD(
                buffer, at
            )
            if (
                cmd_sn != window.exp_cmd_sn
                or cmd_sn == (window.max_cmd_sn + 1) & MASK
                or itt in tasks
            ):
                break
            if lun != last or not way.open:
                itl = luns.get(lun)
                if itl is None:
                    break
                way = itl.express or express(itl, task_at)
                if not way.open or way.calling.start >= 0:
                    break
                if calling is not None:
                    calling.over()
                calling = way.calling
                calling.caller, calling.way = connection, way
                last = lun
            if operation >= 0x8000:
                lba, blocks, rest = _CDB_16(buffer, at + _CDB + 2)
            else:
                blocks, rest = rest >> 8 & 0xFFFF, rest & 0xFF0000FF
            volume = way.volume
            shift = way.block_shift
            length = blocks << shift
            if (
                length != expected
                or not length
                or rest
                or lba + blocks > volume.blocks
                or blocks > volume.limits.max_blocks
                or way.itl.attentions
                or way.task_set.blocking
                or way.locks.held
            ):
                break
            if header_digest:
                begin, end = end, end + DIGEST_LENGTH
                if digest(buffer[at:begin]) != buffer[begin:end]:
                    break
            if head in _READ:
                if (
                    lengths
                    or operation not in way.reads
                    or length > reads.small
                    or reads.tight
                    or length > parameters.longest_data_in
                ):
                    break
                start, at = at, end
                window.exp_cmd_sn = (cmd_sn + 1) & MASK
                session.commands += 1
                if (lba | blocks) << shift & 0xFFF:
                    way.unaligned[0] += 1
                counter = way.reading
                counter.requests = requests = counter.requests + 1
                counter.blocks += blocks
                began = 0.0 if requests & UNMEASURED else way.counters.clock()
                calling.start = start
                try:
                    data = way.store.read(lba << shift, length)
                except Exception as error:  # noqa: BLE001 - becomes a status
                    task = _task(connection, way, buffer, start, lba, blocks)
                    way.unit.set_outcome(task, error)
                    way.unit.finish(task)
                    continue
                if isinstance(data, Deferred):
                    task = _task(connection, way, buffer, start, lba, blocks)
                    data.addBoth(way.unit.over, task, way.counters.begin())
                    continue
                if began:
                    way.counters.sampled(READS, began)
                # It may have changed in the very call.
                if not way.open or connection.express is None:  # type: ignore[redundant-expr]
                    task = _task(connection, way, buffer, start, lba, blocks)
                    task.data_in = data
                    way.unit.finish(task)
                    break
                calling.start = -1
                stat_sn = connection.stat_sn
                connection.stat_sn = (stat_sn + 1) & MASK
                if window.owed:
                    window.finished()
                else:
                    window.max_cmd_sn = (window.max_cmd_sn + 1) & MASK
                session.read_bytes += length
                header = _DATA_IN(
                    _WITH_STATUS,
                    length,
                    itt,
                    RESERVED_TAG,
                    stat_sn,
                    window.exp_cmd_sn,
                    window.max_cmd_sn,
                )
                if digests or connection.later:
                    connection.send(header, data)
                else:
                    output = connection.output
                    output.append(header)
                    output.append(data)
                    connection.output_bytes += length
            elif head in _WRITE:
                begin = end
                end += length
                if (
                    lengths != length
                    or operation not in way.writes
                    or length > framer.max_segment
                    or length > parameters.longest_immediate_data
                    or end > there
                ):
                    break
                data = (
                    buffer[begin:end]
                    if length < COPY_BELOW
                    else memoryview(buffer)[begin:end]
                )
                if data_digest:
                    begin, end = end, end + DIGEST_LENGTH
                    if digest(data) != buffer[begin:end]:
                        break
                start, at = at, end
                window.exp_cmd_sn = (cmd_sn + 1) & MASK
                session.commands += 1
                writes = session.writes
                writes.commands += 1
                writes.written += length
                if (lba | blocks) << shift & 0xFFF:
                    way.unaligned[1] += 1
                counter = way.writing
                counter.requests = requests = counter.requests + 1
                counter.blocks += blocks
                began = 0.0 if requests & UNMEASURED else way.counters.clock()
                calling.start = start
                try:
                    done: Any = way.store.write(lba << shift, data, way.fua)
                except Exception as error:  # noqa: BLE001 - becomes a status
                    task = _task(connection, way, buffer, start, lba, blocks, data)
                    way.unit.set_outcome(task, error)
                    way.unit.finish(task)
                    continue
                if done is not None:
                    task = _task(connection, way, buffer, start, lba, blocks, data)
                    began = way.counters.begin()
                    done.addBoth(_written, task, began, way, connection)
                    continue
                if began:
                    way.counters.sampled(WRITES, began)
                # It may have changed in the very call.
                if not way.open or connection.express is None:  # type: ignore[redundant-expr]
                    task = _task(connection, way, buffer, start, lba, blocks, data)
                    way.unit.finish(task)
                    break
                calling.start = -1
                _respond(connection, itt)
            else:
                break
    finally:
        framer.at = at
        if calling is not None:
            calling.over()


def _task(
    connection: Connection,
    way: Express,
    buffer: bytes,
    at: int,
    lba: int,
    blocks: int,
    data: Buffer = b"",
) -> Task:
    """
    Return the task that a command would be by the general way, for which the store has
    been called.
    """
    calling = way.calling
    calling.start = -1
    if calling.task is not None:
        task, calling.task = calling.task, None
        return task
    return _made(connection, way, buffer, at, lba, blocks, data)


def task_at(way: Express, connection: Connection, at: int) -> Task:
    """
    Return the task of the command at *at*, for which the store is being called.
    """
    framer = connection.framer
    buffer = framer.buffer
    _head, lengths, *_rest, operation, lba, rest = _HEAD(buffer, at)
    blocks = rest >> 8 & 0xFFFF
    if operation >= 0x8000:
        lba, blocks, _rest_16 = _CDB_16(buffer, at + _CDB + 2)
    at_data = at + BHS_LENGTH + (DIGEST_LENGTH if framer.header_digest else 0)
    data = buffer[at_data : at_data + lengths]
    return _made(connection, way, buffer, at, lba, blocks, data)


def _made(
    connection: Connection,
    way: Express,
    buffer: bytes,
    at: int,
    lba: int,
    blocks: int,
    data: Buffer,
) -> Task:
    session = connection.session
    assert session is not None
    pdu = SCSICommand(*SCSICommand.unpack(buffer, at))
    pdu.data = data
    task = Task(
        way.itl,
        pdu.itt,
        pdu.flags & 7,
        pdu.cdb,
        pdu.expected_data_transfer_length,
        connection.done,
        pdu,
    )
    task.data_out = data
    way.started(task, lba, blocks)
    session.tasks[task.tag] = task
    return task


def _written(
    result: Any, task: Task, began: float, way: Express, connection: Connection
) -> None:
    """
    Answer a write for which the store has been called.
    """
    session = connection.session
    if (
        result is not None
        or session is None
        or connection.express is None
        or not way.open
        or task.aborted
        or task.watchers is not None
        or way.task_set.blocking
    ):
        way.unit.over(result, task, began)
        return
    way.counters.end(WRITES, began)
    task.finished = True
    tag = task.tag
    del way.task_set.tasks[task], session.tasks[tag]
    _respond(connection, tag)
    if not connection.receiving:
        connection.wake()


def _respond(connection: Connection, itt: int) -> None:
    """
    Answer a write with GOOD, and nothing left over.
    """
    window = connection.window
    if window.owed:
        window.finished()
    else:
        window.max_cmd_sn = (window.max_cmd_sn + 1) & MASK
    stat_sn = connection.stat_sn
    connection.stat_sn = (stat_sn + 1) & MASK
    header = _RESPONSE(_GOOD, itt, stat_sn, window.exp_cmd_sn, window.max_cmd_sn)
    if connection.header_digest or connection.later:
        connection.send(header, b"")
    else:
        connection.output.append(header)
        connection.output_bytes += BHS_LENGTH
