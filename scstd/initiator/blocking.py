# SPDX-License-Identifier: MIT
"""
An initiator on a blocking socket.
"""

from __future__ import annotations

import socket
import struct

from scstd.initiator.commands import CommandResult
from scstd.protocols.wire.pdu import (
    PDU_TYPES,
    LoginRequest,
    LogoutRequest,
    SCSICommand,
)
from scstd.protocols.wire.text import encode

LOGGED_OUT = 0x26
"""The opcode of a Logout Response."""


def name_of(number: int) -> str:
    """
    Return the name of the initiator with this number.
    """
    return f"iqn.2026-11.org.scstd:plain{number}"


class BlockingSession:
    """
    A session with the target of a URL; *keys* are offered at the login besides.
    """

    def __init__(self, url: str, number: int, *keys: tuple[str, str]) -> None:
        portal, target, self.lun = url.removeprefix("iscsi://").split("/")
        host, _colon, port = portal.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 60)
        self._cmd_sn = 1
        request = LoginRequest(
            flags=0x87, isid=b"\x80\0\0" + number.to_bytes(3, "big"), cmd_sn=1
        )
        request.data = encode(
            [
                ("InitiatorName", name_of(number)),
                ("TargetName", target),
                ("SessionType", "Normal"),
                *keys,
            ]
        )
        header = request.encode()
        self.socket.sendall(header + request.data + bytes(-len(request.data) % 4))
        response = self.receive()
        if response[36]:
            raise ConnectionError(f"login refused: {response[36:38].hex()}")

    def receive(self) -> bytes:
        """
        Return the next PDU, header and data.
        """
        header = self._exactly(48)
        (lengths,) = struct.unpack_from(">I", header, 4)
        assert header[0] & 0x3F in PDU_TYPES
        length = lengths & 0xFFFFFF
        return header + self._exactly(length + -length % 4)

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise ConnectionError("the target closed the connection")
            data += piece
        return data

    def ask(self, lba: int, blocks: int, block: int = 512) -> None:
        """
        Send a READ(10); a *block* has so many bytes.
        """
        cdb = struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0).ljust(16, b"\0")
        pdu = SCSICommand(
            flags=0xC1,
            lun=int(self.lun) << 48,
            itt=self._cmd_sn,
            expected_data_transfer_length=blocks * block,
            cmd_sn=self._cmd_sn,
            cdb=cdb,
        )
        self._cmd_sn += 1
        self.socket.sendall(pdu.encode())

    def read(self, lba: int, blocks: int) -> bytes:
        """
        Return what a READ(10) reads; a unit attention first is taken.
        """
        self.ask(lba, blocks)
        answer = self.receive()
        if answer[0] == 0x21 and answer[3] == 2:
            return self.read(lba, blocks)
        assert answer[0] == 0x25, answer.hex()
        return answer[48:]

    def command(self, cdb: bytes, *, data: bytes = b"", read: int = 0) -> bytes:
        """
        Return the Data-In of a command that ends well; *data* goes with it.  A unit
        attention first is taken.
        """
        flags = 0x81 | (0x40 if read else 0) | (0x20 if data else 0)
        pdu = SCSICommand(
            flags=flags,
            lun=int(self.lun) << 48,
            itt=self._cmd_sn,
            expected_data_transfer_length=read or len(data),
            cmd_sn=self._cmd_sn,
            cdb=cdb.ljust(16, b"\0"),
            data=data,
        )
        self._cmd_sn += 1
        self.socket.sendall(pdu.encode() + data + bytes(-len(data) % 4))
        answer = self.receive()
        if answer[0] == 0x21 and answer[3] == 2 and answer[52] & 0xF == 6:
            return self.command(cdb, data=data, read=read)
        assert answer[3] == 0, answer.hex()
        return answer[48:]

    def whole(self) -> bytes:
        """
        Return the data of the next command to end, from all its Data-In.
        """
        data = b""
        while True:
            answer = self.receive()
            assert answer[0] == 0x25, answer[:52].hex()
            data += answer[48:]
            if answer[1] & 1:
                return data

    def send(self, cdb: bytes, *, data: bytes = b"", read: int = 0) -> None:
        """
        Send any command, with *data* as immediate data.
        """
        pdu = SCSICommand(
            flags=0x81 | (0x40 if read else 0) | (0x20 if data else 0),
            lun=int(self.lun) << 48,
            itt=self._cmd_sn,
            expected_data_transfer_length=read or len(data),
            cmd_sn=self._cmd_sn,
            cdb=cdb.ljust(16, b"\0"),
        )
        self._cmd_sn += 1
        pdu.data = data
        self.socket.sendall(pdu.encode() + data + bytes(-len(data) % 4))

    def do(self, cdb: bytes, *, data: bytes = b"", read: int = 0) -> CommandResult:
        """
        Carry out any command that writes *data*, as immediate data, or reads at most so
        many bytes; a unit attention first is an answer like others, unless it reads.
        """
        self.send(cdb, data=data, read=read)
        got = b""
        while True:
            answer = self.receive()
            length = int.from_bytes(answer[5:8], "big")
            if answer[0] == 0x25:
                got += answer[48 : 48 + length]
                if not answer[1] & 1:
                    continue
                return CommandResult(answer[3], got)
            assert answer[0] == 0x21, answer.hex()
            found = CommandResult(answer[3], got, answer[50 : 48 + length])
            if read and found.status == 2 and found.sense[2] & 15 == 6:
                return self.do(cdb, read=read)
            return found

    def logout(self) -> None:
        """
        Log out, and close the connection.
        """
        self.socket.sendall(LogoutRequest(cmd_sn=self._cmd_sn, flags=0x80).encode())
        while self.receive()[0] != LOGGED_OUT:
            pass
        self.close()

    def close(self) -> None:
        """
        Close the connection.
        """
        self.socket.close()
