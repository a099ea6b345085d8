# SPDX-License-Identifier: MIT
"""
What an initiator asks: PDUs with their numbers and tags (RFC 7143 section 11).

`Requests` owns what numbers them: CmdSN and the Initiator Task Tags.  ExpStatSN is the
connection's (`scstd.initiator.connection`), which fills it in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scstd.interfaces import Buffer
from scstd.protocols.wire.ahs import bidirectional
from scstd.protocols.wire.codes import (
    FINAL,
    IMMEDIATE,
    READ,
    RESERVED_TAG,
    WRITE,
    SNACKType,
)
from scstd.protocols.wire.pdu import (
    R2T,
    DataOut,
    LoginRequest,
    LogoutRequest,
    NOPOut,
    SCSICommand,
    SNACKRequest,
    TaskManagementRequest,
    TextRequest,
)
from scstd.protocols.wire.serial import add
from scstd.protocols.wire.text import encode

FLAT_SPACE = range(256, 1 << 14)
"""LUNs that only flat space addressing has (SAM-5 section 4.7.7.3)."""


def lun_field(lun: int) -> int:
    """
    Return the LUN field of a PDU: eight bytes, as a number.
    """
    return (lun | 0x4000 if lun in FLAT_SPACE else lun) << 48


def data_out(
    answered: R2T | SCSICommand,
    data: Buffer,
    begin: int,
    end: int,
    segment: int,
) -> list[DataOut]:
    """
    Return a sequence of Data-Out PDUs with *data* from byte *begin* to *end*, in
    segments of at most so many bytes: for an R2T, or unsolicited for a command.
    """
    ttt = answered.ttt if isinstance(answered, R2T) else RESERVED_TAG
    pdus = []
    for number, at in enumerate(range(begin, end, segment)):
        upto = min(at + segment, end)
        pdus.append(
            DataOut(
                flags=FINAL if upto == end else 0,
                lun=answered.lun,
                itt=answered.itt,
                ttt=ttt,
                data_sn=number,
                buffer_offset=at,
                data=data[at:upto],
            )
        )
    return pdus


class Requests:
    """
    The requests of one session.
    """

    def __init__(self, name: str, isid: bytes, cmd_sn: int = 1) -> None:
        self.name = name
        """The initiator's iSCSI name."""
        self.isid = isid
        """Six bytes that tell its sessions with one target portal group apart."""
        self.cmd_sn = cmd_sn
        """The CmdSN of the next request that is not immediate."""
        self.itt = 0
        """The Initiator Task Tag that was used last."""

    def next_itt(self) -> int:
        """
        Return an Initiator Task Tag that is not in use.
        """
        self.itt = (self.itt + 1) % RESERVED_TAG
        return self.itt

    def login_request(
        self, keys: Iterable[tuple[str, str]], **fields: Any
    ) -> LoginRequest:
        """
        Return a Login Request: one that does all in one step, if *fields* do not say
        otherwise.
        """
        request = LoginRequest(
            flags=0x87, isid=self.isid, itt=0, cid=0, cmd_sn=self.cmd_sn
        )
        for name, value in fields.items():
            setattr(request, name, value)
        request.data = encode(keys)
        return request

    def logout_request(self, reason: int = 0, cid: int = 0) -> LogoutRequest:
        """
        Return an immediate Logout Request; *reason* is a `LogoutReason`.
        """
        return LogoutRequest(
            first=0x06 | IMMEDIATE,
            flags=FINAL | reason,
            itt=self.next_itt(),
            cid=cid,
            cmd_sn=self.cmd_sn,
        )

    def command(
        self,
        cdb: bytes,
        *,
        read: int = 0,
        write: int = 0,
        data: Buffer = b"",
        lun: int = 0,
        attribute: int = 1,
        final: bool = True,
        immediate: bool = False,
    ) -> SCSICommand:
        """
        Return a SCSI Command PDU that expects to read or write so many bytes, or both;
        *data* is its immediate data.
        """
        flags = attribute | (FINAL if final else 0)
        flags |= (READ if read else 0) | (WRITE if write else 0)
        pdu = SCSICommand(
            first=0x01 | (IMMEDIATE if immediate else 0),
            flags=flags,
            lun=lun_field(lun),
            itt=self.next_itt(),
            expected_data_transfer_length=write or read,
            cmd_sn=self.cmd_sn,
            cdb=cdb.ljust(16, b"\0")[:16],
            ahs=bidirectional(read) if read and write else b"",
            data=data,
        )
        if not immediate:
            self.cmd_sn = add(self.cmd_sn, 1)
        return pdu

    def task_management_request(
        self,
        function: int,
        *,
        lun: int = 0,
        tag: int = RESERVED_TAG,
        ref_cmd_sn: int = 0,
        exp_data_sn: int = 0,
    ) -> TaskManagementRequest:
        """
        Return an immediate Task Management Function Request; *function* is a
        `TaskManagementCode`, *tag* that of the task which it is about.
        """
        return TaskManagementRequest(
            first=0x02 | IMMEDIATE,
            flags=FINAL | function,
            lun=lun_field(lun),
            itt=self.next_itt(),
            referenced_task_tag=tag,
            cmd_sn=self.cmd_sn,
            ref_cmd_sn=ref_cmd_sn,
            exp_data_sn=exp_data_sn,
        )

    def ping(self, data: Buffer = b"ping") -> NOPOut:
        """
        Return an immediate NOP-Out that wants an answer.
        """
        return NOPOut(
            first=IMMEDIATE, itt=self.next_itt(), cmd_sn=self.cmd_sn, data=data
        )

    def pong(self, ttt: int, lun: int) -> NOPOut:
        """
        Return the answer to a NOP-In that wants one: *lun* is its LUN field.
        """
        return NOPOut(first=IMMEDIATE, ttt=ttt, lun=lun, cmd_sn=self.cmd_sn)

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


def snack_request(
    kind: SNACKType,
    begin: int,
    length: int = 0,
    *,
    itt: int = RESERVED_TAG,
    ttt: int = RESERVED_TAG,
    lun: int = 0,
) -> SNACKRequest:
    """
    Return a SNACK for so many PDUs from *begin* on, all with *length* 0; *lun* is the
    LUN field of what it acknowledges.
    """
    return SNACKRequest(
        flags=FINAL | kind,
        lun=lun,
        itt=itt,
        ttt=ttt,
        begin_run=begin,
        run_length=length,
    )
