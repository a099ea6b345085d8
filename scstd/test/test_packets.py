# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.console.sftp_packets`: SFTP requests that are cut off, unknown, on
handles that are not open; and what is no SFTP.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from twisted.conch.ssh import filetransfer as fx
from twisted.conch.ssh.common import NS
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase

from scstd.management.console import sftp_packets
from scstd.management.console.sftp import subsystem
from scstd.test.test_tree import started

OPEN, CLOSE, READ, WRITE, FSTAT, FSETSTAT = 3, 4, 5, 6, 8, 10
OPENDIR, READDIR, STAT, EXTENDED = 11, 12, 17, 200
VERSION, STATUS, HANDLE = 2, 101, 102

NO_HANDLE = NS(b"99")

CASES = {
    "an unknown type": (77, b"", fx.FX_OP_UNSUPPORTED),
    "an answer": (STATUS, bytes(12), fx.FX_OP_UNSUPPORTED),
    "an unknown extension": (EXTENDED, NS(b"x@y"), fx.FX_OP_UNSUPPORTED),
    "a path that is cut off": (STAT, b"\0\0", fx.FX_BAD_MESSAGE),
    "no flags": (OPEN, NS(b"version"), fx.FX_BAD_MESSAGE),
    "too much": (STAT, NS(b"version") + b"x", fx.FX_BAD_MESSAGE),
    "read, no such handle": (READ, NO_HANDLE + bytes(12), fx.FX_FAILURE),
    "write, no such handle": (WRITE, NO_HANDLE + bytes(8) + NS(b"x"), fx.FX_FAILURE),
    "stat, no such handle": (FSTAT, NO_HANDLE, fx.FX_FAILURE),
    "setstat, no such handle": (FSETSTAT, NO_HANDLE + bytes(4), fx.FX_FAILURE),
    "list, no such handle": (READDIR, NO_HANDLE, fx.FX_FAILURE),
    "close, no such handle": (CLOSE, NO_HANDLE, fx.FX_NO_SUCH_FILE),
    "a path that is no text": (STAT, NS(b"\xff"), fx.FX_NO_SUCH_FILE),
    "a path with a NUL": (STAT, NS(b"version\0"), fx.FX_NO_SUCH_FILE),
}


class PacketsTests(TestCase):
    """
    The server's end of a channel.
    """

    async def open(self) -> None:
        """Have one that has begun."""
        tree = await started(self)
        self.transport: Any = StringTransport()
        self.server = subsystem(tree)(b"", None)
        self.server.makeConnection(self.transport)
        self.assertEqual(self.say(1, struct.pack(">L", 3))[0], VERSION)

    def say(self, kind: int, body: bytes) -> bytes:
        """Return the answer to a packet, without its length."""
        self.transport.clear()
        data = struct.pack(">LB", len(body) + 1, kind) + body
        half = len(data) // 2
        self.server.dataReceived(data[:half])
        self.server.dataReceived(data[half:])
        answer: bytes = self.transport.value()
        return answer[4:]

    def ask(self, kind: int, body: bytes) -> bytes:
        """Return the answer to a request: to this one."""
        answer = self.say(kind, b"\0\0\0\7" + body)
        self.assertEqual(answer[1:5], b"\0\0\0\7")
        return answer

    def code(self, kind: int, body: bytes) -> int:
        """Return the status of a request."""
        answer = self.ask(kind, body)
        self.assertEqual(answer[0], STATUS)
        return int.from_bytes(answer[5:9], "big")

    async def test_refused(self) -> None:
        """Whatever a request is, it has its status, and the next is served."""
        await self.open()
        for what, (kind, body, code) in CASES.items():
            self.assertEqual(self.code(kind, body), code, what)
        self.assertEqual(self.ask(STAT, NS(b"/".join([b"devices/.."] * 10000)))[0], 105)

    async def test_wrong_handle(self) -> None:
        """A file is not listed, a directory not read; nothing is used when closed."""
        await self.open()
        file = self.ask(OPEN, NS(b"version") + struct.pack(">LL", 1, 0))[5:]
        directory = self.ask(OPENDIR, NS(b"devices"))[5:]
        self.assertEqual(self.code(READDIR, file), fx.FX_FAILURE)
        self.assertEqual(self.code(READ, directory + bytes(12)), fx.FX_FAILURE)
        self.assertEqual(self.code(CLOSE, file), fx.FX_OK)
        self.assertEqual(self.code(READ, file + bytes(12)), fx.FX_FAILURE)
        self.assertEqual(self.code(CLOSE, file), fx.FX_NO_SUCH_FILE)

    async def test_many_handles(self) -> None:
        """So many are open at a time and no more."""
        await self.open()
        self.patch(sftp_packets, "MAX_OPEN", 2)
        first = self.ask(OPENDIR, NS(b"devices"))[5:]
        wanted = NS(b"version") + struct.pack(">LL", 1, 0)
        self.assertEqual(self.ask(OPEN, wanted)[0], HANDLE)
        self.assertEqual(self.code(OPEN, wanted), fx.FX_FAILURE)
        self.assertEqual(self.code(CLOSE, first), fx.FX_OK)
        self.assertEqual(self.ask(OPEN, wanted)[0], HANDLE)

    async def test_no_sftp(self) -> None:
        """A length that no packet has ends the channel; nothing is taken any more."""
        for data in (bytes(8), b"GET / HTTP/1.0\r\n", struct.pack(">LB", 1 << 31, 3)):
            await self.open()
            self.server.dataReceived(data)
            self.assertTrue(self.transport.disconnecting)
            self.assertEqual(self.say(STAT, b"\0\0\0\7" + NS(b"version")), b"")

    async def test_cut_off_at_first(self) -> None:
        """A first packet that makes no sense ends the channel too."""
        await self.open()
        self.assertEqual(self.say(1, struct.pack(">L", 3) + b"\0\0"), b"")
        self.assertTrue(self.transport.disconnecting)

    async def test_not_read(self) -> None:
        """Answers that nobody reads are not kept for ever."""
        await self.open()
        self.transport.session = SimpleNamespace(buf=bytes(sftp_packets.MAX_UNREAD + 1))
        self.assertEqual(self.say(STAT, b"\0\0\0\7" + NS(b"version")), b"")
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.session.buf, b"")
