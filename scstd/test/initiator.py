# SPDX-License-Identifier: MIT
"""
A test initiator, sans-IO, for what real ones do not do: odd sequences, faults, every
byte by itself.

It talks to a `Connection` in memory.  `Initiator.send` says anything at all;
`Initiator.do` carries out a command as a proper initiator would and returns what came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from scstd.blocking import Lane
from scstd.initiator.commands import CommandResult
from scstd.initiator.connection import has_status, octets, on_the_wire
from scstd.interfaces import IBackstore
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Node, TargetSettings
from scstd.protocols.hosts import Hosts
from scstd.protocols.wire.codes import (
    FINAL,
    IMMEDIATE,
    READ,
    RESERVED_TAG,
    STATUS,
    WRITE,
)
from scstd.protocols.wire.framing import Framer
from scstd.protocols.wire.pdu import (
    PDU,
    R2T,
    AsynchronousMessage,
    DataIn,
    DataOut,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    NOPOut,
    Reject,
    SCSICommand,
    SCSIResponse,
    TaskManagementRequest,
    TextRequest,
)
from scstd.protocols.wire.text import decode, encode
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.device import open_unit
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit

TARGET = "iqn.2026-11.org.scstd:test"
INITIATOR = "iqn.2026-11.org.scstd:initiator"


def serve(
    *stores: IBackstore,
    limits: TargetSettings | None = None,
    copies: CopyManager | None = None,
    **settings: Any,
) -> tuple[Node, Target, list[LogicalUnit]]:
    """
    Return a node with one target that has these stores as LUN 0, 1, ...
    """
    node = Node(failure_delay=0.0)
    target = Target(TARGET)
    copies = copies or CopyManager()
    units = []
    for lun, store in enumerate(stores):
        unit = open_unit(f"disk{lun}", store, settings, copies=copies)
        target.add_lun(lun, unit)
        units.append(unit)
    node.add_target(target, limits or TargetSettings())
    return node, target, units


def _look_at_once(hosts: Hosts, ready: Callable[[], None]) -> None:
    """
    Look at the files of hosts without a thread: in memory nobody waits.
    """
    for one in (hosts.allow, hosts.deny):
        one.take(one.look()())
    ready()


class Initiator:
    """
    One connection, seen from the other side.
    """

    def __init__(
        self, node: Node, *, name: str = INITIATOR, isid: bytes = b"\x80\0\0\0\0\1"
    ) -> None:
        self.name = name
        self.isid = isid
        hosts = getattr(node.look, "__self__", None)
        if isinstance(hosts, Hosts) and isinstance(
            getattr(hosts.call, "__self__", None), Lane
        ):
            node.look = partial(_look_at_once, hosts)
        self.connection = Connection(
            node, lambda: None, 0.0, peer="test:1", portal="127.0.0.1:3260"
        )
        self.framer = Framer(max_segment=1 << 24)
        self.feed: Callable[[bytes], None] = self._feed
        self.header_digest = self.data_digest = False
        self.cmd_sn = 100
        self.exp_stat_sn = 0
        self.itt = 0
        self.keys: dict[str, str] = {}
        self.unread: list[Any] = []
        self.events: list[AsynchronousMessage] = []

    # Bytes.

    def _feed(self, data: bytes) -> None:
        self.connection.receive_data(data, self.connection.now)

    def byte_by_byte(self) -> None:
        """
        From now on, each byte arrives alone.
        """

        def feed(data: bytes) -> None:
            for at in range(len(data)):
                self._feed(data[at : at + 1])

        self.feed = feed

    def encode(self, pdu: PDU) -> bytes:
        """
        Return a PDU as it is sent.
        """
        return on_the_wire(pdu, self.header_digest, self.data_digest)

    def send(self, *pdus: PDU) -> None:
        """
        Send PDUs in one chunk.
        """
        self.feed(b"".join(self.encode(pdu) for pdu in pdus))

    def receive(self) -> list[Any]:
        """
        Return the PDUs that have come since; SCSI events are in `events` instead, for
        they come when they like.
        """
        connection = self.connection
        while connection.output:
            output, connection.output = connection.output, []
            connection.output_bytes = 0
            self.framer.feed(octets(output))
            while (pdu := self.framer.next()) is not None:
                if isinstance(pdu, AsynchronousMessage) and not pdu.async_event:
                    self.events.append(pdu)
                else:
                    self.unread.append(pdu)
                answer: Any = pdu
                if has_status(answer):
                    self.exp_stat_sn = (answer.stat_sn + 1) & 0xFFFFFFFF
            connection.sent()
            connection.pump()
        found, self.unread = self.unread, []
        return found

    def one(self, kind: type[Any]) -> Any:
        """
        Return the one PDU that has come; it has to be of this kind.
        """
        found = self.receive()
        assert [type(pdu) for pdu in found] == [kind], found
        return found[0]

    # Logging in and out.

    def login_request(
        self, keys: Iterable[tuple[str, str]], **fields: Any
    ) -> LoginRequest:
        """
        Return a Login Request.
        """
        request = LoginRequest(
            flags=0x87, isid=self.isid, itt=0, cid=0, cmd_sn=self.cmd_sn
        )
        for name, value in fields.items():
            setattr(request, name, value)
        request.data = encode(keys)
        return request

    def login(
        self, target: str | None = TARGET, *, tsih: int = 0, cid: int = 0, **keys: Any
    ) -> LoginResponse:
        """
        Log in, in one request; return the response.
        """
        offers = [("InitiatorName", self.name)]
        if target is None:
            offers.append(("SessionType", "Discovery"))
        else:
            offers += [("SessionType", "Normal"), ("TargetName", target)]
        offers += keys.items()
        self.send(self.login_request(offers, tsih=tsih, cid=cid))
        response: LoginResponse = self.one(LoginResponse)
        self.keys = dict(decode(bytes(response.data)))
        if not response.status_class:
            self.header_digest = self.keys.get("HeaderDigest") == "CRC32C"
            self.data_digest = self.keys.get("DataDigest") == "CRC32C"
            self.framer.header_digest = self.header_digest
            self.framer.data_digest = self.data_digest
        return response

    def ready(self, target: str = TARGET, **keys: Any) -> Initiator:
        """
        Log in and take the unit attention; return itself.
        """
        response = self.login(target, **keys)
        assert not response.status_class, response
        for lun in self.connection.session.nexus.itls:  # type: ignore[union-attr]
            self.do(bytes(6), lun=lun)
        return self

    def logout(self, reason: int = 0, cid: int = 0) -> Any:
        """
        Log out; return the response.
        """
        self.logout_sent(reason, cid)
        return self.receive()[-1]

    def logout_sent(self, reason: int = 0, cid: int = 0) -> None:
        """
        Send a Logout Request.
        """
        self.send(
            LogoutRequest(
                first=0x06 | IMMEDIATE,
                flags=FINAL | reason,
                itt=self.next_itt(),
                cid=cid,
                cmd_sn=self.cmd_sn,
            )
        )

    # Commands.

    def next_itt(self) -> int:
        """
        Return an Initiator Task Tag that is not in use.
        """
        self.itt += 1
        return self.itt

    def command(
        self,
        cdb: bytes,
        *,
        read: int = 0,
        write: int = 0,
        data: bytes = b"",
        lun: int = 0,
        attribute: int = 1,
        final: bool = True,
        immediate: bool = False,
    ) -> SCSICommand:
        """
        Return a SCSI Command PDU that expects to read or write so many bytes; *data* is
        its immediate data.
        """
        flags = attribute | (FINAL if final else 0)
        flags |= (READ if read else 0) | (WRITE if write else 0)
        pdu = SCSICommand(
            first=0x01 | (IMMEDIATE if immediate else 0),
            flags=flags,
            lun=lun << 48,
            itt=self.next_itt(),
            expected_data_transfer_length=read or write,
            cmd_sn=self.cmd_sn,
            exp_stat_sn=self.exp_stat_sn,
            cdb=cdb.ljust(16, b"\0")[:16],
            data=data,
        )
        if not immediate:
            self.cmd_sn = (self.cmd_sn + 1) & 0xFFFFFFFF
        return pdu

    def do(
        self,
        cdb: bytes,
        *,
        read: int = 0,
        data: bytes = b"",
        lun: int = 0,
        write: int | None = None,
        attribute: int = 1,
    ) -> CommandResult:
        """
        Carry out a command: *read* bytes are expected, *data* is what it writes.

        As much goes immediately as may; the rest as it is asked for.
        """
        parameters = self.connection.parameters
        count = 0
        if data and parameters.immediate_data:
            count = min(len(data), parameters.first_burst_length, 8192)
        pdu = self.command(
            cdb,
            read=read,
            write=len(data) if write is None else write,
            data=data[:count],
            lun=lun,
            attribute=attribute,
        )
        self.send(pdu)
        return self.finish(pdu, data)

    def finish(self, pdu: SCSICommand, data: bytes = b"") -> CommandResult:
        """
        Answer the R2Ts of a command until it ends; return how.
        """
        got = bytearray(pdu.expected_data_transfer_length if pdu.flags & READ else 0)
        most = 0
        while True:
            found = self.receive()
            assert found, "the command did not end"
            for answer in found:
                if isinstance(answer, R2T):
                    self.send(*self.data_out(answer, data))
                elif isinstance(answer, DataIn):
                    at = answer.buffer_offset
                    got[at : at + len(answer.data)] = answer.data
                    most = max(most, at + len(answer.data))
                    if answer.flags & STATUS:
                        return CommandResult(
                            answer.status,
                            bytes(got[:most]),
                            b"",
                            answer.flags & 6,
                            answer.residual_count,
                        )
                elif isinstance(answer, SCSIResponse):
                    sense = bytes(answer.data)[2:]
                    return CommandResult(
                        answer.status,
                        bytes(got[:most]),
                        sense,
                        answer.flags & 6,
                        answer.residual_count,
                    )
                elif isinstance(answer, Reject):
                    raise AssertionError(f"rejected: {answer.reason}")

    def data_out(self, r2t: R2T, data: bytes, segment: int = 8192) -> list[DataOut]:
        """
        Return the Data-Out PDUs that answer an R2T.
        """
        end = r2t.buffer_offset + r2t.desired_data_transfer_length
        pdus = []
        for number, at in enumerate(range(r2t.buffer_offset, end, segment)):
            upto = min(at + segment, end)
            pdus.append(
                DataOut(
                    flags=FINAL if upto == end else 0,
                    lun=r2t.lun,
                    itt=r2t.itt,
                    ttt=r2t.ttt,
                    data_sn=number,
                    buffer_offset=at,
                    data=data[at:upto],
                )
            )
        return pdus

    # The rest.

    def manage(
        self,
        function: int,
        *,
        lun: int = 0,
        tag: int = RESERVED_TAG,
        ref_cmd_sn: int = 0,
        exp_data_sn: int = 0,
    ) -> None:
        """
        Send an immediate Task Management Function Request.
        """
        self.send(
            TaskManagementRequest(
                first=0x02 | IMMEDIATE,
                flags=FINAL | function,
                lun=lun << 48,
                itt=self.next_itt(),
                referenced_task_tag=tag,
                cmd_sn=self.cmd_sn,
                ref_cmd_sn=ref_cmd_sn,
                exp_data_sn=exp_data_sn,
            )
        )

    def ping(self, data: bytes = b"ping") -> NOPOut:
        """
        Return an immediate NOP-Out that wants an answer.
        """
        return NOPOut(
            first=IMMEDIATE, itt=self.next_itt(), cmd_sn=self.cmd_sn, data=data
        )

    def text(self, *pairs: tuple[str, str], **fields: Any) -> TextRequest:
        """
        Return an immediate Text Request.
        """
        request = TextRequest(
            first=0x04 | IMMEDIATE, itt=self.next_itt(), cmd_sn=self.cmd_sn
        )
        for name, value in fields.items():
            setattr(request, name, value)
        request.data = encode(pairs)
        return request


def corrupted(data: bytes, at: int) -> bytes:
    """
    Return *data* with one bit of byte *at* turned.
    """
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
