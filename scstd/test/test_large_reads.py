# SPDX-License-Identifier: MIT
"""
Large reads, and what becomes of their bytes before the initiator has taken them.

An answer stands in buffers of the kernel until its initiator reads it.  What is in it
is what the medium had when it was read, whatever is done to the medium meanwhile, by
commands or behind our back.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from scstd.initiator.blocking import BlockingSession
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.test.copying import cscd, list_1, segment
from scstd.test.serving import Server

CONTENT = random.Random(7).randbytes(4 << 20)
LARGE = (("MaxRecvDataSegmentLength", "262144"), ("MaxBurstLength", "1048576"))


NAA = bytes.fromhex("3000000012345678")

BLOCKS = 2048
"""What is read: as much as sockets do not take."""


def _cdb(layout: str, *fields: int) -> bytes:
    return struct.pack(layout, *fields)


READ = _cdb(">BBIBH", 0x28, 0, 0, 0, BLOCKS)

_SAME = b"s" * 512
_UNMAPPED = struct.pack(">HHxxxxQIxxxx", 22, 16, 0, 2048)

CHANGES: tuple[tuple[str, bytes, bytes], ...] = (
    ("WRITE(10)", _cdb(">BBIBH", 0x2A, 0, 8, 0, 16), b"w" * 8192),
    ("WRITE(10) with FUA", _cdb(">BBIBH", 0x2A, 8, 8, 0, 16), b"f" * 8192),
    ("WRITE AND VERIFY(10)", _cdb(">BBIBH", 0x2E, 0, 8, 0, 16), b"v" * 8192),
    ("WRITE ATOMIC(16)", _cdb(">BBQHHB", 0x9C, 0, 8, 0, 16, 0), b"a" * 8192),
    ("ORWRITE(16)", _cdb(">BBQI", 0x8B, 0, 8, 16), b"\xff" * 8192),
    (
        "COMPARE AND WRITE",
        _cdb(">BBQ3xB", 0x89, 0, 8, 8),
        CONTENT[4096:8192] + _SAME * 8,
    ),
    ("WRITE SAME(10)", _cdb(">BBIBH", 0x41, 0, 8, 0, 1024), _SAME),
    ("WRITE SAME(16), NDOB", _cdb(">BBQI", 0x93, 1, 8, 1024), b""),
    ("WRITE SAME(16), UNMAP", _cdb(">BBQI", 0x93, 9, 8, 1024), b""),
    ("UNMAP", _cdb(">BBIBH", 0x42, 0, 0, 0, 24), _UNMAPPED),
    (
        "EXTENDED COPY",
        _cdb(">BB8xI", 0x83, 0, 76),
        list_1([cscd(NAA, block=512)], [segment(1024, 4096, 0, target=0)]),
    ),
)
"""Commands that change some of the first blocks: name, CDB, Data-Out."""


class SocketTests(TestCase):
    """
    Through real sockets.
    """

    timeout = 60

    def setUp(self) -> None:
        """Serve a file."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "disk.img"
        self.path.write_bytes(CONTENT)

    def served(self) -> Any:
        """Return the server."""
        return Server(
            "--device",
            f"d=vdisk_fileio:filename=disk.img:naa_id=0x{NAA.hex()}",
            directory=str(self.directory),
        )

    def test_all_sizes(self) -> None:
        """Large reads of any size and place, in long and in short segments."""
        chance = random.Random(1)
        with self.served() as server:
            for number, keys in enumerate((LARGE, ())):
                session = BlockingSession(server.url, number, *keys)
                session.read(0, 1)
                for _read in range(40):
                    blocks = chance.randrange(100, 2048)
                    lba = chance.randrange((len(CONTENT) >> 9) - blocks)
                    session.ask(lba, blocks)
                    wanted = CONTENT[lba << 9 : (lba + blocks) << 9]
                    self.assertEqual(session.whole(), wanted)
                session.close()

    def test_slow_reader(self) -> None:
        """What the socket does not take goes later, right to the byte."""
        with self.served() as server:
            session = BlockingSession(server.url, 1, *LARGE)
            session.read(0, 1)
            for number in range(24):
                session.ask(number * 128, 2048)
            other = BlockingSession(server.url, 2)
            self.assertEqual(other.read(8, 8), CONTENT[4096:8192])
            for number in range(24):
                start = number * 65536
                self.assertEqual(session.whole(), CONTENT[start : start + (1 << 20)])
            session.close()
            other.close()

    def asked(self, server: Server, number: int) -> BlockingSession:
        """Return a session whose large READ of the first blocks is answered, and that
        has taken none of the data.
        """
        session = BlockingSession(server.url, number, *LARGE)
        session.read(0, 1)
        session.ask(0, BLOCKS)
        session.socket.recv(1, socket.MSG_PEEK)
        return session

    def test_changed_by_commands(self) -> None:
        """A READ that was answered has nothing of what is done after it."""
        old = CONTENT[: BLOCKS * 512]
        with self.served() as server:
            writer = BlockingSession(server.url, 99)
            writer.read(0, 1)
            for number, (name, cdb, data) in enumerate(CHANGES):
                with self.path.open("r+b") as file:
                    file.write(CONTENT)
                session = self.asked(server, number)
                self.assertEqual(writer.do(cdb, data=data).status, 0, name)
                self.assertEqual(session.whole(), old, name)
                session.ask(0, BLOCKS)
                self.assertNotEqual(session.whole(), old, name)
                session.close()
            writer.close()

    def test_changed_by_others(self) -> None:
        """Nor of what somebody does to the file, who need not ask."""
        with self.served() as server:
            session = self.asked(server, 1)
            with self.path.open("r+b") as file:
                file.write(bytes(1 << 20))
            self.assertEqual(session.whole(), CONTENT[: BLOCKS * 512])
            session.close()

    def test_cut_off_while_sent(self) -> None:
        """A file that is cut off leaves no zeros in what was read before."""
        with self.served() as server:
            session = self.asked(server, 1)
            os.truncate(self.path, 4096)
            self.assertEqual(session.whole(), CONTENT[: BLOCKS * 512])
            self.assertEqual(session.do(READ, read=BLOCKS * 512).sense[2], 3)
            session.close()

    def test_disc_cut_off_while_sent(self) -> None:
        """So with a disc of a drive."""
        device = ("--device", "d=vcdrom:filename=disk.img")
        with Server(*device, directory=str(self.directory)) as server:
            session = BlockingSession(server.url, 1, *LARGE)
            session.do(bytes(6))
            session.ask(0, BLOCKS // 4, block=2048)
            session.socket.recv(1, socket.MSG_PEEK)
            os.truncate(self.path, 4096)
            self.assertEqual(session.whole(), CONTENT[: BLOCKS * 512])
            session.close()

    def test_cut_off(self) -> None:
        """A read of what is gone is an error for it and for nobody else."""
        with self.served() as server:
            session = BlockingSession(server.url, 1, *LARGE)
            session.read(0, 1)
            session.ask(4096, 2048)
            self.assertEqual(session.whole(), CONTENT[2 << 20 : 3 << 20])
            os.truncate(self.path, 1 << 20)
            session.ask(4096, 2048)
            answer = session.receive()
            assert isinstance(answer, SCSIResponse), answer
            self.assertEqual(answer.status, 2)
            self.assertEqual(session.read(8, 8), CONTENT[4096:8192])
            session.close()
        self.assertNotIn("Traceback", server.log())
