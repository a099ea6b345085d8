# SPDX-License-Identifier: MIT
"""
An initiator that recovers, and a link that gives it reason to.

`Link` drops, damages and duplicates PDUs in both directions, and cuts connections, by a
seeded schedule.  `Recoverer` is the other side of error recovery levels 0, 1 and 2 (RFC
7143 section 7): it keeps track of StatSN, DataSN and R2TSN, asks with SNACK, repeats
commands with their CmdSN, logs connections out for recovery and reassigns tasks; over
one connection or several.  Everything is in memory, and the only clock is its own.

`run` is one schedule: blocks are written and read back, and whatever the link did, each
must be what was written, and each command must end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from scstd.handlers.memory import MemoryStore
from scstd.interfaces import Buffer, IBackstore, Result
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Limits, Node
from scstd.protocols.engine.snack import SNACKType
from scstd.protocols.wire.framing import Framer, append
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import (
    ACKNOWLEDGE,
    FINAL,
    IMMEDIATE,
    PDU,
    R2T,
    READ,
    RESERVED_TAG,
    STATUS,
    WRITE,
    AsynchronousMessage,
    DataIn,
    DataOut,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    NOPOut,
    Reject,
    RejectReason,
    SCSICommand,
    SCSIResponse,
    SNACKRequest,
    TaskManagementRequest,
    TaskManagementResponse,
)
from scstd.protocols.wire.serial import add, less
from scstd.protocols.wire.text import decode, encode
from scstd.scsi.sam import TaskManagementFunction
from scstd.test.initiator import INITIATOR, TARGET, read10, serve, write10

BLOCK = 512
SLOT = 48
"""Blocks of one piece of the disk: a command moves as many or fewer."""

MOST_STALLS = 400
"""Stalls in a row after which a command counts as hung."""


@attrs.frozen
class Rates:
    """
    How often the link does what, of each PDU.
    """

    drop: float = 0.0
    damage: float = 0.0
    duplicate: float = 0.0
    cut: float = 0.0
    header: float = 0.0


@implementer(IBackstore)
class SlowStore:
    """
    A store in memory whose calls end in any order, when `some` is called.
    """

    def __init__(self, size: int, rng: random.Random) -> None:
        self.inner = MemoryStore(size, BLOCK)
        self.size, self.block_size = size, BLOCK
        self.calls: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.rng = rng

    def _later(self, call: Callable[[], Any]) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.calls.append((deferred, call))
        return deferred

    def some(self, count: int) -> None:
        """
        Let so many calls end, or all there are.
        """
        for _number in range(min(count, len(self.calls))):
            deferred, call = self.calls.pop(self.rng.randrange(len(self.calls)))
            deferred.callback(call())

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read, later."""
        return self._later(lambda: self.inner.read(offset, length))

    def write(self, offset: int, data: Buffer, fua: bool) -> Result[None]:
        """Write, later."""
        return self._later(lambda: self.inner.write(offset, bytes(data), fua))

    def flush(self) -> None:
        """There is nothing to be flushed."""

    def close(self) -> None:
        """There is nothing to be closed."""


@attrs.define(eq=False)
class Work:
    """
    One command and what has come of it.
    """

    slot: int
    blocks: int
    data: bytes
    writes: bool
    pdu: SCSICommand
    path: Path
    got: dict[int, tuple[int, bytes]] = attrs.field(factory=dict)
    count: int = -1
    status: int = -1
    r2ts: set[int] = attrs.field(factory=set)

    def contiguous(self) -> int:
        """
        Return the first DataSN that has not come.
        """
        number = 0
        while number in self.got:
            number += 1
        return number

    @property
    def over(self) -> bool:
        """Whether the status is there, and all data."""
        if self.status < 0:
            return False
        return self.status != 0 or self.writes or self.contiguous() >= self.count

    def value(self) -> bytes:
        """
        Return the data read.
        """
        whole = bytearray(self.blocks * BLOCK)
        for at, piece in self.got.values():
            whole[at : at + len(piece)] = piece
        return bytes(whole)


class Path:
    """
    One connection, as the initiator sees it.
    """

    def __init__(self, node: Node, cid: int, now: float) -> None:
        self.cid = cid
        self.connection = Connection(
            node, lambda: None, now, peer="test:1", portal="127.0.0.1:3260"
        )
        self.framer = Framer(max_segment=1 << 24)
        self.digests = False
        self.queue: list[PDU] = []
        self.exp_stat_sn = 0
        self.stat_sns: dict[int, Work | None] = {}
        self.tsih = 0

    def encode(self, pdu: PDU) -> bytes:
        """
        Return a PDU as it is sent.
        """
        output: list[Any] = []
        append(
            output,
            pdu.encode(),
            pdu.data,
            header_digest=self.digests,
            data_digest=self.digests,
        )
        return b"".join(output)

    def acknowledge(self) -> None:
        """
        Move ExpStatSN on, but not past the status of a read whose data has gaps: that
        would acknowledge the data too.
        """
        while self.exp_stat_sn in self.stat_sns:
            work = self.stat_sns[self.exp_stat_sn]
            if work is not None and work.path is self and not work.over:
                return
            del self.stat_sns[self.exp_stat_sn]
            self.exp_stat_sn = add(self.exp_stat_sn, 1)

    def missing(self) -> int:
        """
        Return the first StatSN that has not come.
        """
        stat_sn = self.exp_stat_sn
        while stat_sn in self.stat_sns:
            stat_sn = add(stat_sn, 1)
        return stat_sn

    def output(self) -> list[Any]:
        """
        Return the PDUs that the target has sent.
        """
        connection = self.connection
        found: list[Any] = []
        while connection.output:
            output, connection.output = connection.output, []
            connection.output_bytes = 0
            self.framer.feed(b"".join(output))
            while (pdu := self.framer.next()) is not None:
                found.append(pdu)
            connection.pump()
        return found


class Hung(AssertionError):
    """
    A command that never ends.
    """


class Recoverer:
    """
    A session of one or several connections over a bad link.
    """

    def __init__(
        self, node: Node, rng: random.Random, rates: Rates, level: int, paths: int = 1
    ) -> None:
        self.node, self.rng, self.rates = node, rng, rates
        self.level, self.wanted = level, paths
        self.now = 0.0
        self.cmd_sn = rng.choice((1, 0xFFFFFFF0, 0x7FFFFFF0))
        self.exp_cmd_sn = self.max_cmd_sn = self.cmd_sn
        self.itt = 0
        self.cid = 0
        self.tsih = 0
        self.paths: list[Path] = []
        self.works: dict[int, Work] = {}
        self.answers: dict[int, Any] = {}
        self.counts = dict.fromkeys(
            ("drop", "damage", "duplicate", "cut", "header", "snack", "reassign"), 0
        )
        self.faithful = False
        self._open()

    # Connections.

    def _open(self) -> None:
        self.exp_cmd_sn = self.max_cmd_sn = self.cmd_sn
        self.tsih = 0
        self.paths = []
        while len(self.paths) < self.wanted:
            self.cid += 1
            self.paths.append(self.login(self.cid))

    def login(self, cid: int) -> Path:
        """
        Log in: a new session, or a connection of this one.
        """
        path = Path(self.node, cid, self.now)
        offers = [
            ("InitiatorName", INITIATOR),
            ("TargetName", TARGET),
            ("SessionType", "Normal"),
            ("HeaderDigest", "CRC32C"),
            ("DataDigest", "CRC32C"),
            ("MaxRecvDataSegmentLength", "4096"),
        ]
        if not self.tsih:
            offers += [
                ("ErrorRecoveryLevel", str(self.level)),
                ("MaxConnections", "8"),
                ("DefaultTime2Wait", "0"),
                ("DefaultTime2Retain", "3600"),
                ("InitialR2T", self.rng.choice(("Yes", "No"))),
                ("ImmediateData", self.rng.choice(("Yes", "No"))),
                ("MaxBurstLength", "8192"),
                ("FirstBurstLength", "4096"),
                ("MaxOutstandingR2T", self.rng.choice(("1", "4"))),
            ]
        request = LoginRequest(
            flags=0x87,
            isid=b"\x80\0\0\0\0\1",
            tsih=self.tsih,
            cid=cid,
            cmd_sn=self.cmd_sn,
        )
        request.data = encode(offers)
        connection = path.connection
        connection.receive_data(path.encode(request), self.now)
        for _try in range(100):
            found = path.output()
            if found:
                break
            # It waits for the tasks of the connection that it takes the place of.
            self.let_go()
        else:
            raise Hung("a login")
        (response,) = found
        assert isinstance(response, LoginResponse), response
        if response.status_class:
            raise ConnectionError(response.status_class << 8 | response.status_detail)
        self.keys = dict(decode(bytes(response.data)))
        assert self.keys["DataDigest"] == "CRC32C"
        path.digests = path.framer.header_digest = path.framer.data_digest = True
        path.exp_stat_sn = add(response.stat_sn, 1)
        self.tsih = response.tsih
        self._numbers(response)
        return path

    def let_go(self) -> None:
        """Let the store work, if it needs to be told."""

    def _numbers(self, pdu: Any) -> None:
        if less(self.exp_cmd_sn, pdu.exp_cmd_sn):
            self.exp_cmd_sn = pdu.exp_cmd_sn
        if less(self.max_cmd_sn, pdu.max_cmd_sn):
            self.max_cmd_sn = pdu.max_cmd_sn

    # Sending.

    def send(self, path: Path, pdu: Any) -> None:
        """
        Put a PDU into the queue of a connection.
        """
        path.queue.append(pdu)

    def _chance(self, rate: float) -> bool:
        return not self.faithful and self.rng.random() < rate

    def step(self) -> bool:
        """
        Deliver something, in some direction; return whether there was anything.
        """
        moved = False
        waiting = [path for path in self.paths if path.queue]
        if waiting:
            moved = True
            path = self.rng.choice(waiting)
            for _number in range(self.rng.randint(1, 4)):
                if path.queue and path in self.paths:
                    self._deliver(path, path.queue.pop(0))
        for path in list(self.paths):
            for pdu in path.output():
                moved = True
                if path in self.paths:
                    self._arrive(path, pdu)
            if path.connection.over and path in self.paths:
                moved = True
                self.lost(path)
        return moved

    def _deliver(self, path: Path, pdu: Any) -> None:
        rates = self.rates
        if hasattr(pdu, "exp_stat_sn"):
            pdu.exp_stat_sn = path.exp_stat_sn
        if self._chance(rates.cut):
            self.counts["cut"] += 1
            path.connection.disconnected()
            self.lost(path)
            return
        if self.level and self._chance(rates.drop):
            self.counts["drop"] += 1
            return
        data = path.encode(pdu)
        if self._chance(rates.header):
            self.counts["header"] += 1
            changed = bytearray(data)
            changed[self.rng.choice((1, 9, 18, 30))] ^= 1 << self.rng.randrange(8)
            data = bytes(changed)
        elif self.level and pdu.data and self._chance(rates.damage):
            self.counts["damage"] += 1
            changed = bytearray(data)
            changed[len(data) - 5 - self.rng.randrange(len(pdu.data))] ^= 4
            data = bytes(changed)
        path.connection.receive_data(data, self.now)
        if self.level and self._chance(rates.duplicate) and not path.connection.over:
            self.counts["duplicate"] += 1
            path.connection.receive_data(data, self.now)

    def _arrive(self, path: Path, pdu: Any) -> None:
        rates = self.rates
        if self.level:
            if self._chance(rates.drop):
                self.counts["drop"] += 1
                return
            if pdu.data and self._chance(rates.damage):
                # Its data digest would be wrong: it is discarded (section 7.8).
                self.counts["damage"] += 1
                return
            if self._chance(rates.duplicate):
                self.counts["duplicate"] += 1
                self.take(path, pdu)
        self.take(path, pdu)

    # Receiving.

    def take(self, path: Path, pdu: Any) -> None:
        """
        Take a PDU that has arrived whole.
        """
        self._numbers(pdu)
        if self._has_status(pdu):
            fresh = not less(pdu.stat_sn, path.exp_stat_sn)
            fresh = fresh and pdu.stat_sn not in path.stat_sns
            if fresh:
                missing = path.missing()
                path.stat_sns[pdu.stat_sn] = self.works.get(
                    getattr(pdu, "itt", RESERVED_TAG)
                )
                if pdu.stat_sn != missing and self.level:
                    self.snack(path, SNACKType.STATUS, begin=missing)
            elif not isinstance(pdu, DataIn):
                return
        handler = self._HANDLERS.get(type(pdu))
        assert handler is not None, pdu
        handler(self, path, pdu)
        path.acknowledge()

    @staticmethod
    def _has_status(pdu: Any) -> bool:
        if isinstance(pdu, R2T):
            return False
        if isinstance(pdu, DataIn):
            return bool(pdu.flags & STATUS)
        return not (isinstance(pdu, NOPIn) and pdu.itt == RESERVED_TAG)

    def _work(self, path: Path, itt: int) -> Work | None:
        work = self.works.get(itt)
        return work if work is not None and work.path is path else None

    def _data_in(self, path: Path, pdu: DataIn) -> None:
        work = self._work(path, pdu.itt)
        if work is None:
            return
        work.got[pdu.data_sn] = (pdu.buffer_offset, bytes(pdu.data))
        if pdu.flags & ACKNOWLEDGE:
            self.snack(path, SNACKType.DATA_ACK, work.contiguous(), pdu.ttt, pdu.lun)
        if pdu.flags & STATUS:
            work.count, work.status = pdu.data_sn + 1, pdu.status
        self._look(work)

    def _response(self, path: Path, pdu: SCSIResponse) -> None:
        work = self._work(path, pdu.itt)
        if work is None:
            return
        work.status = pdu.status
        work.count = pdu.exp_data_sn
        self._look(work)

    def _look(self, work: Work) -> None:
        """
        See whether a command is over; what misses data asks for it.
        """
        if work.over:
            if work.status == 2:
                # A unit attention: commands were cleared, or a nexus lost.
                del self.works[work.pdu.itt]
                self.again(work)
                return
            assert work.status == 0, work
            del self.works[work.pdu.itt]
            self.ended(work)
        elif work.status >= 0 and self.level:
            missing = work.contiguous()
            following = missing + 1
            while following < work.count and following not in work.got:
                following += 1
            self.snack(
                work.path,
                SNACKType.DATA,
                missing,
                itt=work.pdu.itt,
                length=following - missing,
            )

    def ended(self, work: Work) -> None:
        """A command has ended well."""

    def _r2t(self, path: Path, pdu: R2T) -> None:
        work = self._work(path, pdu.itt)
        if work is None or pdu.ttt in work.r2ts:
            return
        work.r2ts.add(pdu.ttt)
        end = pdu.buffer_offset + pdu.desired_data_transfer_length
        for number, at in enumerate(range(pdu.buffer_offset, end, 2048)):
            upto = min(at + 2048, end)
            self.send(
                path,
                DataOut(
                    flags=FINAL if upto == end else 0,
                    lun=pdu.lun,
                    itt=pdu.itt,
                    ttt=pdu.ttt,
                    data_sn=number,
                    buffer_offset=at,
                    data=work.data[at:upto],
                ),
            )

    def _nop_in(self, path: Path, pdu: NOPIn) -> None:
        if pdu.itt == RESERVED_TAG and pdu.ttt != RESERVED_TAG:
            self.send(path, NOPOut(first=IMMEDIATE, ttt=pdu.ttt, lun=pdu.lun, cmd_sn=0))

    def _reject(self, path: Path, pdu: Reject) -> None:
        header = bytes(pdu.data)
        if pdu.reason == RejectReason.DATA_DIGEST_ERROR and header[0] & 0x3F == 1:
            work = self._work(path, int.from_bytes(header[16:20], "big"))
            if work is not None:
                self._command(work)

    def _answer(self, path: Path, pdu: Any) -> None:  # noqa: ARG002 - as the others
        self.answers[pdu.itt] = pdu

    def _nothing(self, path: Path, pdu: Any) -> None:
        """It tells us nothing."""

    _HANDLERS: dict[type[Any], Callable[[Recoverer, Path, Any], None]] = {
        DataIn: _data_in,
        SCSIResponse: _response,
        R2T: _r2t,
        NOPIn: _nop_in,
        Reject: _reject,
        TaskManagementResponse: _answer,
        LogoutResponse: _answer,
        AsynchronousMessage: _nothing,
    }

    def snack(  # noqa: PLR0913 - the fields of a SNACK
        self,
        path: Path,
        kind: SNACKType,
        begin: int,
        ttt: int = RESERVED_TAG,
        lun: int = 0,
        itt: int = RESERVED_TAG,
        length: int = 0,
    ) -> None:
        """
        Ask for something again, or acknowledge data.
        """
        self.counts["snack"] += 1
        self.send(
            path,
            SNACKRequest(
                flags=FINAL | kind,
                lun=lun,
                itt=itt,
                ttt=ttt,
                begin_run=begin,
                run_length=length,
            ),
        )

    # Commands.

    def begin(self, slot: int, blocks: int, data: bytes, *, writes: bool) -> None:
        """
        Start to read or write a slot.
        """
        length = blocks * BLOCK
        self.itt += 1
        cdb = (write10 if writes else read10)(slot * SLOT, blocks)
        path = self.rng.choice(self.paths)
        parameters = path.connection.parameters
        sent = b""
        if writes and parameters.immediate_data and self.rng.random() < 0.7:
            most = min(parameters.first_burst_length, length)
            sent = data[: self.rng.randrange(0, most + 1, 4)]
        final = not writes or parameters.initial_r2t or self.rng.random() < 0.5
        if len(sent) >= min(length, parameters.first_burst_length):
            final = True
        pdu = SCSICommand(
            flags=1 | (FINAL if final else 0) | (WRITE if writes else READ),
            itt=self.itt,
            expected_data_transfer_length=length,
            cmd_sn=self.cmd_sn,
            cdb=cdb.ljust(16, b"\0"),
            data=sent,
        )
        self.cmd_sn = add(self.cmd_sn, 1)
        work = Work(slot, blocks, data, writes, pdu, path)
        self.works[self.itt] = work
        self._command(work)

    def _command(self, work: Work) -> None:
        """
        Send a command and its unsolicited data, for the first time or again.
        """
        pdu = work.pdu
        self.send(work.path, pdu)
        if pdu.flags & FINAL:
            return
        end = min(work.path.connection.parameters.first_burst_length, len(work.data))
        for number, at in enumerate(range(len(pdu.data), end, 1024)):
            upto = min(at + 1024, end)
            self.send(
                work.path,
                DataOut(
                    flags=FINAL if upto == end else 0,
                    itt=pdu.itt,
                    data_sn=number,
                    buffer_offset=at,
                    data=work.data[at:upto],
                ),
            )

    def again(self, work: Work) -> None:
        """
        Begin a command anew, as a new one.
        """
        self.begin(work.slot, work.blocks, work.data, writes=work.writes)

    @property
    def room(self) -> bool:
        """Whether the window has room for one more command."""
        return not less(self.max_cmd_sn, self.cmd_sn)

    # When something is missing.

    def stall(self) -> None:
        """
        Nothing comes any more, but commands are not over: find out why.
        """
        self.now += 4.0
        self.node.tick(self.now)
        for path in self.paths:
            path.connection.tick(self.now)
            self.itt += 1
            self.send(path, NOPOut(first=IMMEDIATE, itt=self.itt, cmd_sn=self.cmd_sn))
            if self.level:
                self.snack(path, SNACKType.STATUS, path.missing())
        if not self.level:
            return
        for work in list(self.works.values()):
            path = work.path
            if not less(work.pdu.cmd_sn, self.exp_cmd_sn):
                self._command(work)
            elif work.status >= 0:
                self._look(work)
            elif work.writes:
                self.snack(path, SNACKType.DATA, len(work.r2ts), itt=work.pdu.itt)

    def settle(self, over: Callable[[], bool]) -> None:
        """
        Go on until *over* says so.
        """
        stalls = 0
        while not over():
            if self.step():
                continue
            self.let_go()
            if self.step():
                continue
            stalls += 1
            if stalls > MOST_STALLS:
                raise Hung([vars(path.connection) for path in self.paths])
            self.stall()

    # Connections that are lost.

    def lost(self, path: Path) -> None:
        """
        A connection is gone: do what the level allows.
        """
        self.paths.remove(path)
        faithful, self.faithful = self.faithful, True
        try:
            if not self.level:
                self._start_over()
            elif self.level == 1:
                self._continue(path)
            else:
                self._recover(path)
        finally:
            self.faithful = faithful

    def _start_over(self) -> None:
        works, self.works = list(self.works.values()), {}
        for path in self.paths:
            path.connection.disconnected()
        self._open()
        for work in works:
            self.again(work)

    def _replace(self, path: Path, cid: int) -> Path:
        try:
            fresh = self.login(cid)
        except ConnectionError as error:
            raise Hung(f"login refused: {error}") from error
        self.paths.append(fresh)
        return fresh

    def _continue(self, path: Path) -> None:
        """
        Level 1: the tasks are gone, the session is not (sections 6.3.4 and 6.3.6).
        """
        fresh = self._replace(path, path.cid)
        for work in [one for one in self.works.values() if one.path is path]:
            if less(work.pdu.cmd_sn, self.exp_cmd_sn):
                del self.works[work.pdu.itt]
                self.again(work)
            else:
                work.path = fresh
                self._command(work)

    def _recover(self, path: Path) -> None:
        """
        Level 2: reassign the tasks (section 7.2.2).
        """
        if self.rng.random() < 0.5:
            # A login with the same CID logs the old connection out.
            fresh = self._replace(path, path.cid)
        else:
            self.cid = self.cid % 0xFFFF + 1
            if len(self.paths) + 1 > 8:
                raise AssertionError("too many connections")
            fresh = self._replace(path, self.cid)
            self.itt += 1
            tag = self.itt
            logout = LogoutRequest(
                first=0x06 | IMMEDIATE,
                flags=FINAL | 2,
                itt=tag,
                cid=path.cid,
                cmd_sn=self.cmd_sn,
            )
            self._ask(fresh, logout, tag)
            assert self.answers.pop(tag).response == 0
        for work in [one for one in self.works.values() if one.path is path]:
            if not less(work.pdu.cmd_sn, self.exp_cmd_sn):
                work.path = fresh
                self._command(work)
                continue
            self._reassign(work, fresh)

    def _reassign(self, work: Work, fresh: Path) -> None:
        self.counts["reassign"] += 1
        begin = work.contiguous()
        # What was not acknowledged comes again.
        work.got = {number: work.got[number] for number in range(begin)}
        work.status, work.count = -1, -1
        work.path = fresh
        self.itt += 1
        tag = self.itt
        request = TaskManagementRequest(
            first=0x02 | IMMEDIATE,
            flags=FINAL | TaskManagementFunction.TASK_REASSIGN,
            itt=tag,
            referenced_task_tag=work.pdu.itt,
            cmd_sn=self.cmd_sn,
            exp_data_sn=begin,
        )
        self._ask(fresh, request, tag)
        response = self.answers.pop(tag).response
        assert response == 0, response

    def _ask(self, path: Path, pdu: Any, tag: int) -> None:
        self._deliver(path, pdu)
        for answer in path.output():
            self._arrive(path, answer)
        assert tag in self.answers, pdu


@attrs.define
class Outcome:
    """
    What a schedule came to.
    """

    written: int
    read: int
    counts: dict[str, int]


def run(
    seed: int, level: int, paths: int, blocks: int = 1000, rates: Rates | None = None
) -> Outcome:
    """
    Write and read back so many blocks at an error recovery level over so many
    connections; return what happened.

    :raises AssertionError: a byte is wrong, or a command hangs.
    """
    rng = random.Random(seed)
    if rates is None:
        base = rng.choice((0.002, 0.01, 0.03))
        rates = Rates(base, base, base, base / 4, base / 8)
    slots = 24
    size = slots * SLOT * BLOCK
    store: Any = (
        SlowStore(size, rng) if rng.random() < 0.5 else MemoryStore(size, BLOCK)
    )
    local = {
        **LOCAL,
        "ErrorRecoveryLevel": 2,
        "MaxConnections": 8,
        "DefaultTime2Retain": 3600,
    }
    limits = Limits(
        local=local, queued_commands=16, response_timeout=0, nop_in_interval=0
    )
    node, _target, _units = serve(store, limits=limits)
    session = Recoverer(node, rng, rates, level, paths)
    if isinstance(store, SlowStore):
        session.let_go = lambda: store.some(rng.randint(1, 6))  # type: ignore[method-assign]
    model: dict[int, bytes] = {}
    busy: set[int] = set()
    outcome = Outcome(0, 0, session.counts)

    def ended(work: Work) -> None:
        busy.discard(work.slot)
        if work.writes:
            model[work.slot] = work.data + model.get(work.slot, b"")[len(work.data) :]
            outcome.written += work.blocks
        else:
            expected = model[work.slot][: work.blocks * BLOCK]
            assert work.value() == expected, f"seed {seed}: wrong data in {work.slot}"
            outcome.read += work.blocks

    session.ended = ended  # type: ignore[method-assign]
    while outcome.written < blocks or outcome.read < blocks:
        free = [slot for slot in range(slots) if slot not in busy]
        if len(session.works) < 8 and free and session.room:
            slot = rng.choice(free)
            writes = slot not in model or rng.random() < 0.5
            count = rng.randint(1, SLOT)
            if writes:
                data = rng.randbytes(count * BLOCK)
            else:
                count, data = min(count, len(model[slot]) // BLOCK), b""
            busy.add(slot)
            session.begin(slot, count, data, writes=writes)
        else:
            before = len(session.works)
            session.settle(lambda before=before: len(session.works) < before)  # type: ignore[misc]
    session.settle(lambda: not session.works)
    _check_nothing_left(node, session)
    return outcome


def _check_nothing_left(node: Node, session: Recoverer) -> None:
    """
    See that the end of the session leaves nothing behind.
    """
    session.faithful = True
    (there,) = node.sessions()
    for _round in range(2):
        # Statuses that are missing come, and what came last is acknowledged.
        session.stall()
        while session.step():
            pass
    assert not there.tasks, there.tasks
    assert not there.transfers
    assert there.held_bytes == 0
    assert not there.ordering.held
    assert there.ordering.immediate == 0, there.ordering.immediate
    for connection in there.connections.values():
        if connection.recovery is not None:
            assert not connection.recovery.answers
            assert not connection.recovery.retained
    there.end("the test is over")
    for path in session.paths:
        assert path.connection.over
    assert not node.sessions()
