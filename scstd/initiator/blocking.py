# SPDX-License-Identifier: MIT
"""
An initiator on a blocking socket, for programs that do one thing after the other.

`BlockingSession.do` carries out a command.  `BlockingSession.send` and `ask` only send
one, and `BlockingSession.receive` returns the next PDU as it comes: with them many may
be under way, and any order be tried.
"""

from __future__ import annotations

import socket

from scstd.initiator.commands import UNIT_ATTENTION, CommandResult, read10
from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.login import LoginRefused
from scstd.initiator.session import InitiatorSession
from scstd.initiator.tasks import InitiatorTask
from scstd.initiator.url import TargetURL
from scstd.protocols.wire.codes import STATUS
from scstd.protocols.wire.pdu import PDU, DataIn

TIMEOUT = 60.0
"""Seconds to wait for the socket, at each step."""

_CHUNK = 1 << 18


def name_of(number: int) -> str:
    """
    Return the name of the initiator with this number.
    """
    return f"iqn.2026-11.org.scstd:plain{number}"


class BlockingSession:
    """
    A session with the target of a URL, of the initiator with a *number*; *keys* are
    offered at the login.

    :raises ConnectionError: the login was refused.
    :raises OSError: there is no connection.
    """

    def __init__(self, url: str, number: int = 1, *keys: tuple[str, str]) -> None:
        where = TargetURL.parse(url)
        self.lun = where.lun
        """Where commands go."""
        self.socket = socket.create_connection((where.host, where.port), TIMEOUT)
        isid = b"\x80\0\0" + number.to_bytes(3, "big")
        self.session = InitiatorSession(name_of(number), isid, where.options(*keys))
        self.link = InitiatorConnection()
        ended: list[LoginRefused | None] = []
        self.session.connect(connection=self.link, on_login=ended.append)
        try:
            while not ended:
                self._take()
        except BaseException:
            self.close()
            raise
        if ended[0] is not None:
            self.close()
            raise ConnectionError(str(ended[0]))

    # PDUs.

    def flush(self) -> None:
        """
        Send what the session has to say.
        """
        data = self.link.take_output()
        if data:
            self.socket.sendall(data)

    def receive(self) -> PDU:
        """
        Return the next PDU; nothing is done about it but that it is acknowledged.

        :raises ConnectionError: the target has closed the connection.
        """
        self.flush()
        pdu = self.link.framer.next()
        while pdu is None:
            data = self.socket.recv(_CHUNK)
            if not data:
                raise ConnectionError("the target closed the connection")
            self.link.framer.feed(data)
            pdu = self.link.framer.next()
        self.link.acknowledge(pdu)
        return pdu

    def _take(self) -> None:
        """
        Take the next PDU as a session does.
        """
        self.session.take(self.link, self.receive())
        if self.link.login is None or self.link.output:
            self.flush()

    # Commands.

    def send(self, cdb: bytes, *, data: bytes = b"", read: int = 0) -> None:
        """
        Send a command, with all of *data* as immediate data.
        """
        self.link.send(
            self.session.command(
                cdb, read=read, write=len(data), data=data, lun=self.lun
            )
        )
        self.flush()

    def ask(self, lba: int, blocks: int, block: int = 512) -> None:
        """
        Send a READ(10); a *block* has so many bytes.
        """
        self.send(read10(lba, blocks), read=blocks * block)

    def whole(self) -> bytes:
        """
        Return the data of the next command to end, from all its Data-In.
        """
        data = b""
        while True:
            pdu = self.receive()
            assert isinstance(pdu, DataIn), pdu
            data += pdu.data
            if pdu.flags & STATUS:
                return data

    def do(self, cdb: bytes, *, data: bytes = b"", read: int = 0) -> CommandResult:
        """
        Carry out a command that writes *data* or reads at most so many bytes; a unit
        attention first is an answer like others, unless it reads.

        :raises CommandFailure: there is no status.
        """
        over: list[InitiatorTask] = []
        self.session.execute(
            cdb, lun=self.lun, read=read, data=data, on_end=over.append
        )
        while not over:
            self._take()
        result = over[0].result()
        if read and result.status == 2 and result.key == UNIT_ATTENTION:
            return self.do(cdb, data=data, read=read)
        return result

    def command(self, cdb: bytes, *, data: bytes = b"", read: int = 0) -> bytes:
        """
        Return the Data-In of a command that ends well; *data* goes with it.  A unit
        attention first is taken.
        """
        result = self.do(cdb, data=data, read=read)
        while result.status == 2 and result.key == UNIT_ATTENTION:
            result = self.do(cdb, data=data, read=read)
        assert result.status == 0, result
        return result.data

    def read(self, lba: int, blocks: int, block: int = 512) -> bytes:
        """
        Return what a READ(10) reads; a unit attention first is taken.
        """
        return self.command(read10(lba, blocks), read=blocks * block)

    # The end.

    def logout(self) -> None:
        """
        Log out, and close the connection.
        """
        self.session.logout(self.link)
        while not self.session.over:
            self._take()
        self.close()

    def close(self) -> None:
        """
        Close the connection.
        """
        self.socket.close()
