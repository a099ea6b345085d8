# SPDX-License-Identifier: MIT
"""
An initiator that logs in, and then sends what it likes: PDUs with damaged fields,
lengths, header segments and digests, pieces of PDUs, and noise.

`assault` runs one seed of it against a `Connection` in memory and sees that nothing is
raised, that all that comes back can be read, and that nothing grows or is left behind.
``python -m scstd.test.hostile SECONDS`` tries one seed after the other.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.engine.ordering import IMMEDIATE_LIMIT
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, READ, RESERVED_TAG, WRITE
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import (
    PDU_TYPES,
    R2T,
    DataOut,
    LoginResponse,
    LogoutRequest,
    NOPOut,
    SCSICommand,
    SNACKRequest,
    TaskManagementRequest,
    TextRequest,
    UnknownPDU,
)
from scstd.protocols.wire.text import encode
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.seeds import try_seeds
from scstd.test.stores import ManualStore, memory

TARGET_OPCODES = frozenset(one for one in PDU_TYPES if one >= 0x20)
STEPS = 60
MOST_KEPT = 4 << 20
"""Bytes that a connection may hold of what it was sent, beside its tasks."""

_FIELDS = (
    "first",
    "flags",
    "lun",
    "itt",
    "ttt",
    "cmd_sn",
    "exp_stat_sn",
    "data_sn",
    "buffer_offset",
    "expected_data_transfer_length",
    "referenced_task_tag",
    "ref_cmd_sn",
    "exp_data_sn",
    "begin_run",
    "run_length",
    "cid",
    "tsih",
)
_SIZES = {"first": 0xFF, "flags": 0xFF, "cid": 0xFFFF, "tsih": 0xFFFF, "lun": 2**64 - 1}
_KEYS = (
    "MaxRecvDataSegmentLength",
    "SendTargets",
    "X-a",
    "InitiatorAlias",
    "HeaderDigest",
)


class Assault:
    """
    One seed.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.store: Any = ManualStore() if rng.random() < 0.5 else memory()
        local = {
            **LOCAL,
            "ErrorRecoveryLevel": 2,
            "MaxConnections": 4,
            "DefaultTime2Retain": 20,
        }
        self.node, _target, self.units = serve(
            self.store, memory(), limits=TargetSettings(local=local)
        )
        self.digests = rng.random() < 0.4
        self.now = 0.0
        self.talks: list[Initiator] = []
        self.seen: list[Any] = []

    # What is said.

    def log_in(self, cid: int, tsih: int = 0) -> Initiator:
        """Log in as one should."""
        rng = self.rng
        one = Initiator(self.node)
        word = "CRC32C" if self.digests else "None"
        keys = {
            "HeaderDigest": word,
            "DataDigest": rng.choice((word, "None")),
            "ErrorRecoveryLevel": str(rng.randrange(3)),
            "MaxConnections": "4",
            "InitialR2T": rng.choice(("Yes", "No")),
            "MaxRecvDataSegmentLength": rng.choice(("512", "8192", "262144")),
            "MaxBurstLength": rng.choice(("512", "65536")),
            "DefaultTime2Retain": "20",
            "TaskReporting": rng.choice(("RFC3720", "ResponseFence", "FastAbort")),
        }
        if tsih:
            keys = {name: keys[name] for name in ("HeaderDigest", "DataDigest")}
        one.cmd_sn = rng.choice((1, 0xFFFFFFF0))
        response: LoginResponse = one.login(tsih=tsih, cid=cid, **keys)
        if not response.status_class:
            one.cmd_sn = response.exp_cmd_sn
            self.talks.append(one)
        return one

    def proper(self, one: Initiator) -> Any:
        """Return a PDU that would be in its place, or nearly."""
        rng = self.rng
        kind = rng.choice(self._KINDS)
        pdu = kind(self, one)
        if not isinstance(pdu, (DataOut, NOPOut)):
            pdu.itt = one.next_itt() if rng.random() < 0.9 else rng.randrange(5)
        if hasattr(pdu, "cmd_sn"):
            pdu.cmd_sn = one.cmd_sn
            if rng.random() < 0.2:
                pdu.first |= IMMEDIATE
            else:
                one.cmd_sn = (one.cmd_sn + 1) & 0xFFFFFFFF
        if hasattr(pdu, "exp_stat_sn"):
            pdu.exp_stat_sn = one.exp_stat_sn
        return pdu

    def command(self, _one: Initiator) -> SCSICommand:
        """Read or write."""
        rng = self.rng
        blocks = rng.randrange(1, 20)
        writes = rng.random() < 0.6
        return SCSICommand(
            flags=rng.choice((0, FINAL, FINAL)) | (WRITE if writes else READ) | 1,
            expected_data_transfer_length=blocks * 512,
            cdb=(write10 if writes else read10)(0, blocks).ljust(16, b"\0"),
            data=self.data() if writes else b"",
            lun=rng.choice((0, 0, 1 << 48, 7 << 48)),
        )

    def data(self) -> bytes:
        """Return some data, or none."""
        return self.rng.randbytes(self.rng.choice((0, 0, 512, 1024, 3)))

    def data_out(self, _one: Initiator) -> DataOut:
        """Answer an R2T, or do as if."""
        rng = self.rng
        r2t = rng.choice(self.seen) if self.seen else R2T(itt=1, ttt=1)
        return DataOut(
            flags=rng.choice((0, FINAL)),
            itt=r2t.itt,
            ttt=rng.choice((r2t.ttt, r2t.ttt, RESERVED_TAG)),
            lun=r2t.lun,
            buffer_offset=r2t.buffer_offset,
            data=bytes(min(r2t.desired_data_transfer_length, 2048)),
        )

    def ping(self, _one: Initiator) -> NOPOut:
        """Ping, or answer one."""
        tag = self.rng.choice((RESERVED_TAG, self.rng.randrange(99)))
        return NOPOut(data=self.data(), itt=tag)

    def function(self, one: Initiator) -> TaskManagementRequest:
        """Ask for any function, for a task that may be there."""
        rng = self.rng
        return TaskManagementRequest(
            flags=FINAL | rng.randrange(16),
            referenced_task_tag=rng.randrange(one.itt + 2),
            ref_cmd_sn=(one.cmd_sn - rng.randrange(4)) & 0xFFFFFFFF,
        )

    def text(self, _one: Initiator) -> TextRequest:
        """Say some text, or a part of one."""
        rng = self.rng
        words = ("All", "", TARGET, "512", "None", "Reject", "x" * 300)
        return TextRequest(
            flags=rng.choice((FINAL, 0, 0x40)),
            ttt=rng.choice((RESERVED_TAG, 1)),
            data=encode([(rng.choice(_KEYS), rng.choice(words))]),
        )

    def snack(self, _one: Initiator) -> SNACKRequest:
        """Ask for something again."""
        rng = self.rng
        return SNACKRequest(
            flags=FINAL | rng.randrange(5),
            begin_run=rng.randrange(5),
            run_length=rng.randrange(5),
        )

    def leave(self, one: Initiator) -> Any:
        """Log out, now and then, or in."""
        rng = self.rng
        if rng.random() < 0.2:
            return LogoutRequest(flags=FINAL | rng.randrange(4), cid=rng.randrange(4))
        return one.login_request([("InitiatorName", INITIATOR)])

    _KINDS = (
        *(command,) * 4,
        *(data_out,) * 3,
        ping,
        function,
        text,
        snack,
        leave,
    )

    def damaged(self, one: Initiator) -> bytes:
        """Return the bytes of a PDU, with something wrong in it or nothing."""
        rng = self.rng
        pdu = self.proper(one)
        harm = rng.random()
        if harm < 0.25:
            name = rng.choice([name for name in _FIELDS if hasattr(pdu, name)])
            most = _SIZES.get(name, 0xFFFFFFFF)
            value = rng.choice((0, 1, most, most - 1, most >> 1, rng.randrange(most)))
            setattr(pdu, name, value)
        elif harm < 0.3:
            pdu.ahs = rng.randbytes(4 * rng.choice((1, 2, 5, 255)))
        elif harm < 0.33 and isinstance(pdu, SCSICommand):
            pdu.cdb = rng.randbytes(16)
        data = bytearray(one.encode(pdu))
        if 0.33 < harm < 0.37:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif 0.37 < harm < 0.38:
            data[4:8] = rng.randbytes(4)
        elif 0.38 < harm < 0.39:
            del data[rng.randrange(len(data)) :]
        elif 0.39 < harm < 0.4:
            data += rng.randbytes(rng.randrange(100))
        return bytes(data)

    # What comes of it.

    def run(self) -> None:
        """Begin, and go on for some steps."""
        first = self.log_in(0)
        session = first.connection.session
        if session is not None and self.rng.random() < 0.5:
            self.log_in(1, session.tsih)
        for _step in range(STEPS):
            self.step()
        self.end()

    def step(self) -> None:
        """Send something on some connection, or let time go by."""
        rng = self.rng
        what = rng.random()
        if what < 0.02:
            self.now += rng.choice((1, 5, 40))
            for one in self.talks:
                one.connection.tick(self.now)
            self.node.tick(self.now)
        elif what < 0.05:
            sessions = self.node.sessions()
            tsih = rng.choice(sessions).tsih if sessions else 0
            self.stranger(rng.choice((0, tsih)))
        elif what < 0.15:
            store = self.store
            if isinstance(store, ManualStore) and store.calls:
                store.go()
        elif not self.talks:
            # It has been thrown out, and begins anew.
            self.let_go()
            self.log_in(0)
        else:
            one = rng.choice(self.talks)
            chunk = b"".join(self.damaged(one) for _pdu in range(rng.randrange(1, 4)))
            cut = rng.randrange(len(chunk) + 1)
            for part in (chunk[:cut], chunk[cut:]):
                one.target_side.feed(part, self.now)
        for one in list(self.talks):
            self.look(one)

    def stranger(self, tsih: int) -> None:
        """Connect once more: for a login, or for something like one."""
        rng = self.rng
        one = Initiator(self.node)
        names = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
        request = one.login_request(names, tsih=tsih, cid=rng.randrange(3))
        data = bytearray(one.encode(request))
        if rng.random() < 0.5:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        one.target_side.feed(bytes(data), self.now)
        self.talks.append(one)

    def look(self, one: Initiator) -> None:
        """See that a connection's answers can be read, and that it keeps little."""
        for pdu in one.receive():
            assert type(pdu) is not UnknownPDU
            assert pdu.first & 0x3F in TARGET_OPCODES, hex(pdu.first)
            if isinstance(pdu, R2T):
                self.seen.append(pdu)
            if isinstance(pdu, LoginResponse) and not pdu.status_class:
                one.cmd_sn = pdu.exp_cmd_sn
        del self.seen[:-20]
        connection = one.connection
        assert connection.framer.buffered < MOST_KEPT
        if connection.over:
            one.connection.disconnected()
            self.talks.remove(one)
            return
        ordering = connection.ordering
        # And one for each connection: 8 at most.
        most = IMMEDIATE_LIMIT + 8
        assert 0 <= ordering.immediate <= most, ordering.immediate
        assert 0 <= ordering.functions <= most, ordering.functions
        room = ordering.window.max_cmd_sn - ordering.window.exp_cmd_sn
        assert -1 <= (room + 1 & 0xFFFFFFFF) - 1 <= 32, room
        assert len(ordering.held) <= 32
        session = connection.session
        if session is not None:
            assert len(session.tasks) <= 32 + most
            assert session.writes.held_bytes <= MOST_KEPT

    def let_go(self) -> None:
        """Have the store do all that it was asked for."""
        store = self.store
        while isinstance(store, ManualStore) and store.calls:
            store.go()

    def end(self) -> None:
        """All connections go, and time: nothing is left."""
        for one in list(self.talks):
            one.connection.disconnected()
        for _turn in range(5):
            self.let_go()
            self.now += 4000
            self.node.tick(self.now)
        assert not self.node.sessions(), self.node.sessions()
        for unit in self.units:
            assert not unit.tasks(), unit.tasks()


def main(seconds: float, first: int = 0) -> None:
    """Try seeds for so many seconds."""
    try_seeds(lambda seed: Assault(seed).run(), seconds, first)


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:]))
