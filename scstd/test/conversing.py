# SPDX-License-Identifier: MIT
"""
A session over a link that drops, damages and duplicates PDUs in both directions, and
cuts connections, by a seeded schedule: the initiator's part of it that knows what has
come and what has not.  What it does about it is in `recovering`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.node import Node
from scstd.protocols.engine.snack import SNACKType
from scstd.protocols.wire.codes import (
    ACKNOWLEDGE,
    FINAL,
    IMMEDIATE,
    READ,
    RESERVED_TAG,
    STATUS,
    WRITE,
    RejectReason,
)
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataIn,
    DataOut,
    LoginRequest,
    LoginResponse,
    LogoutResponse,
    NOPIn,
    NOPOut,
    Reject,
    SCSICommand,
    SCSIResponse,
    SNACKRequest,
    TaskManagementResponse,
)
from scstd.protocols.wire.serial import add, less
from scstd.protocols.wire.text import decode, encode
from scstd.test.badlink import BLOCK, SLOT, Path, Rates, Work
from scstd.test.initiator import INITIATOR, TARGET


class HungError(AssertionError):
    """
    A command that never ends.
    """


class Conversation:
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
            raise HungError("a login")
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

    def _answer(self, path: Path, pdu: Any) -> None:
        self.answers[pdu.itt] = pdu

    def _nothing(self, path: Path, pdu: Any) -> None:
        """It tells us nothing."""

    _HANDLERS: dict[type[Any], Callable[[Conversation, Path, Any], None]] = {
        DataIn: _data_in,
        SCSIResponse: _response,
        R2T: _r2t,
        NOPIn: _nop_in,
        Reject: _reject,
        TaskManagementResponse: _answer,
        LogoutResponse: _answer,
        AsynchronousMessage: _nothing,
    }

    def snack(
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

    # What `recovering.Recoverer` does.

    def lost(self, path: Path) -> None:
        """
        A connection is gone: do what the level allows.
        """
        raise NotImplementedError
