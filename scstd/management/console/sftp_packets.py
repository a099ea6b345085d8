# SPDX-License-Identifier: MIT
"""
SFTP packets as clients send them, good or bad.

Conch's server answers what is well-formed.  What is not it leaves unanswered, with a
traceback in the log, and a length of four gigabytes it waits for.  Here every request
has its status: one that is cut off, of a type that is unknown, or on a handle that is
not open; and what is no SFTP at all ends the channel
(draft-ietf-secsh-filexfer-02 section 3, General Packet Format; section 7, Responses
from the Server to the Client).
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.conch.ssh import filetransfer as fx
from twisted.conch.ssh.common import getNS
from twisted.logger import Logger

_log = Logger()

LONGEST_PACKET = 1 << 19
"""Bytes of a packet: twice what OpenSSH takes."""

MAX_OPEN = 1024
"""Files and directories that one client may have open."""

MAX_UNREAD = 8 << 20
"""Bytes of answers that one client may leave unread."""

_INIT = 1
_ON_FILES = frozenset(("READ", "WRITE", "FSTAT", "FSETSTAT"))
_OPENING = frozenset(("OPEN", "OPENDIR"))


class _Quiet(Logger):
    """
    A log without conch's two lines for each packet.
    """

    def info(self, format: str | None = None, **kwargs: object) -> None:  # noqa: A002
        """Leave it out."""


class Packets(fx.FileTransferServer):
    """
    Conch's server, for clients that cannot be relied on.
    """

    _log = _Quiet("scstd.management.console.sftp")
    _over = False

    def dataReceived(self, data: bytes) -> None:
        """Take packets."""
        if self._over:
            return
        self.buf += data
        at = 0
        while len(self.buf) >= at + 4 and not self._over:
            length = int.from_bytes(self.buf[at : at + 4], "big")
            if not 5 <= length <= LONGEST_PACKET:
                self.hang_up(f"expected an SFTP packet, found a length of {length}")
                return
            end = at + 4 + length
            if len(self.buf) < end:
                break
            packet = self.buf[at + 4 : end]
            at = end
            self._take(packet[0], packet[1:])
        self.buf = self.buf[at:]

    def hang_up(self, why: str) -> None:
        """
        End the channel.
        """
        _log.warn("SFTP: {why}: hung up", why=why)
        self._over = True
        self.buf = b""
        transport: Any = self.transport
        transport.loseConnection()

    def _take(self, kind: int, data: bytes) -> None:
        name = self.packetTypes.get(kind, "")
        call = getattr(self, f"packet_{name}", None)
        if call is None:
            self._refuse(data, fx.FX_OP_UNSUPPORTED, f"there is no request {kind}")
            return
        try:
            if not self._is_open(name, data):
                self._refuse(data, fx.FX_FAILURE, "this handle is not open")
            elif name in _OPENING and self._count() >= MAX_OPEN:
                self._refuse(data, fx.FX_FAILURE, f"{MAX_OPEN} handles are open")
            else:
                call(data)
        except (struct.error, AssertionError, ValueError, IndexError):
            # Cut off, or longer than it says: conch looks no closer.
            if kind == _INIT:
                self.hang_up("the first packet is cut off")
            else:
                self._refuse(data, fx.FX_BAD_MESSAGE, f"malformed {name}")

    def _is_open(self, name: str, data: bytes) -> bool:
        """
        Say whether a request is on a handle for it, or on none.
        """
        if name == "READDIR":
            return getNS(data[4:])[0] in self.openDirs
        return name not in _ON_FILES or getNS(data[4:])[0] in self.openFiles

    def _count(self) -> int:
        return len(self.openFiles) + len(self.openDirs)

    def _refuse(self, data: bytes, code: int, why: str) -> None:
        self._sendStatus(data[:4].ljust(4, b"\0"), code, why.encode())

    def sendPacket(self, kind: int, data: bytes) -> None:
        """Send an answer; not for ever to who does not read."""
        channel: Any = getattr(self.transport, "session", None)
        if len(getattr(channel, "buf", None) or b"") > MAX_UNREAD:
            channel.buf = b""
            self.hang_up("answers are not read")
        if not self._over:
            super().sendPacket(kind, data)
