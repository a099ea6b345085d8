# SPDX-License-Identifier: MIT
"""
A test initiator, sans-IO, for what real ones do not do: odd sequences, faults, every
byte by itself.

It talks to a `Connection` in memory.  `Initiator.send` says anything at all;
`Initiator.do` carries out a command as a proper initiator would and returns what came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scstd.initiator.commands import CommandResult
from scstd.initiator.connection import InitiatorConnection, has_status
from scstd.initiator.requests import Requests, data_out
from scstd.initiator.tasks import InitiatorTask
from scstd.interfaces import IBackstore
from scstd.management.model.device_attributes import unit_settings
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Node, TargetSettings
from scstd.protocols.wire.pdu import (
    PDU,
    R2T,
    AsynchronousMessage,
    DataIn,
    DataOut,
    LoginResponse,
    Reject,
    SCSICommand,
    SCSIResponse,
)
from scstd.protocols.wire.serial import add
from scstd.protocols.wire.text import decode
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.device import open_unit
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit
from scstd.test.pairing import PairedConnection

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
        unit = open_unit(f"disk{lun}", store, unit_settings(settings), copies=copies)
        target.add_lun(lun, unit)
        units.append(unit)
    node.add_target(target, limits or TargetSettings())
    return node, target, units


class Initiator(Requests):
    """
    One connection, seen from the other side.
    """

    def __init__(
        self, node: Node, *, name: str = INITIATOR, isid: bytes = b"\x80\0\0\0\0\1"
    ) -> None:
        super().__init__(name, isid, cmd_sn=100)
        self.target_side = PairedConnection(node)
        self.link = InitiatorConnection()
        self.feed: Callable[[bytes], None] = self._feed
        self.keys: dict[str, str] = {}
        self.unread: list[Any] = []
        self.events: list[AsynchronousMessage] = []

    @property
    def connection(self) -> Connection:
        """The target's side."""
        return self.target_side.connection

    @property
    def exp_stat_sn(self) -> int:
        """What has come: all before this StatSN."""
        return self.link.exp_stat_sn

    @exp_stat_sn.setter
    def exp_stat_sn(self, value: int) -> None:
        self.link.exp_stat_sn = value

    # Bytes.

    def _feed(self, data: bytes) -> None:
        self.target_side.feed(data)

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
        return self.link.encode(pdu)

    def send(self, *pdus: PDU) -> None:
        """
        Send PDUs in one chunk, as they are.
        """
        self.feed(b"".join(self.encode(pdu) for pdu in pdus))

    def receive(self) -> list[Any]:
        """
        Return the PDUs that have come since; SCSI events are in `events` instead, for
        they come when they like.
        """
        for pdu in self.link.received(self.target_side.take()):
            if isinstance(pdu, AsynchronousMessage) and not pdu.async_event:
                self.events.append(pdu)
            else:
                self.unread.append(pdu)
            answer: Any = pdu
            if has_status(answer):
                self.exp_stat_sn = add(answer.stat_sn, 1)
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
            self.link.header_digest = self.keys.get("HeaderDigest") == "CRC32C"
            self.link.data_digest = self.keys.get("DataDigest") == "CRC32C"
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
        self.send(self.logout_request(reason, cid))

    # Commands.

    def command(self, cdb: bytes, **fields: Any) -> SCSICommand:
        """
        Return a SCSI Command PDU (`Requests.command`), with what it acknowledges.
        """
        pdu = super().command(cdb, **fields)
        pdu.exp_stat_sn = self.exp_stat_sn
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
        task = InitiatorTask(pdu, data)
        while not task.ended:
            found = self.receive()
            assert found, "the command did not end"
            for answer in found:
                if isinstance(answer, R2T):
                    self.send(*self.data_out(answer, data))
                elif isinstance(answer, DataIn):
                    task.take_data_in(answer)
                elif isinstance(answer, SCSIResponse):
                    task.take_response(answer)
                elif isinstance(answer, Reject):
                    raise AssertionError(f"rejected: {answer.reason}")
                if task.ended:
                    break
        return task.result()

    def data_out(self, r2t: R2T, data: bytes, segment: int = 8192) -> list[DataOut]:
        """
        Return the Data-Out PDUs that answer an R2T.
        """
        end = r2t.buffer_offset + r2t.desired_data_transfer_length
        return data_out(r2t, data, r2t.buffer_offset, end, segment)

    # The rest.

    def manage(self, function: int, **fields: int) -> None:
        """
        Send an immediate Task Management Function Request.
        """
        self.send(self.task_management_request(function, **fields))


def corrupted(data: bytes, at: int) -> bytes:
    """
    Return *data* with one bit of byte *at* turned.
    """
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)
