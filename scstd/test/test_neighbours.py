# SPDX-License-Identifier: MIT
"""
What one does to the others: hostile initiators, slow stores, very many sessions.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import struct
import subprocess
from pathlib import Path

from twisted.trial.unittest import TestCase

from scstd.initiator.blocking import BlockingSession
from scstd.protocols.wire.pdu import LoginRequest, SCSICommand, SCSIResponse
from scstd.test.clients import find, need
from scstd.test.serving import PATIENCE, Server


def memory_of(pid: int) -> int:
    """
    Return the resident bytes of a process.
    """
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


class NeighbourTests(TestCase):
    """
    A target with good and bad initiators, in a process of its own.
    """

    timeout = 300

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = str(Path(self.mktemp()).absolute())
        Path(self.directory).mkdir()

    def attack(self, portal: str) -> list[socket.socket]:
        """Say everything that should not be said; return the connections."""
        host, _colon, port = portal.rpartition(":")
        login = LoginRequest(flags=0x87)
        login.data = b"InitiatorName=iqn.2026-11.org.scstd:x\0" * 3
        whole = login.encode() + bytes(login.data) + bytes(-len(login.data) % 4)
        part = LoginRequest(flags=0x44)
        part.data = b"X" * 8192
        piece = part.encode() + bytes(part.data)
        chance = random.Random(5)
        said = []
        for data in (
            chance.randbytes(100_000),
            b"GET / HTTP/1.0\r\n\r\n" * 50,
            struct.pack(">BBxxI40x", 0x43, 0x87, 0xFFFFFF) + bytes(1 << 16),
            struct.pack(">B47x", 0x1C),
            SCSICommand().encode(),
            whole[:30],
            whole[:60],
            whole,
            piece * 9,
            piece * 3,
            b"",
        ):
            one = socket.create_connection((host, int(port)), 60)
            # It may be closed while we are talking: as it should be.
            with contextlib.suppress(OSError):
                one.sendall(data)
            said.append(one)
        return said

    def test_hostile(self) -> None:
        """Garbage gets an answer or a closed connection, and the neighbour goes on."""
        need("iscsi-perf")
        program = find("iscsi-perf")
        assert program is not None
        with Server(
            "--device", "d=memory:size=64M", directory=self.directory
        ) as server:
            good = BlockingSession(server.url, 1)
            self.assertEqual(len(good.read(0, 8)), 4096)
            before = memory_of(server.process.pid)
            busy = subprocess.Popen(
                [program, "-t", "3", "-b", "8", "-m", "16", server.url],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            connections: list[socket.socket] = []
            while busy.poll() is None and len(connections) < 330:
                connections += self.attack(server.portal)
            output, _nothing = busy.communicate(timeout=PATIENCE)
            self.assertEqual(busy.returncode, 0, output)
            self.assertEqual(len(good.read(8, 8)), 4096)
            grown = memory_of(server.process.pid) - before
            self.assertLess(grown, 64 << 20)
            for one in connections:
                one.close()
            self.assertEqual(len(good.read(16, 8)), 4096)
            good.close()
        self.assertNotIn("Traceback", "".join(server.lines))

    def test_reader_that_does_not_read(self) -> None:
        """An initiator that does not take its answers is not read from: no memory."""
        with Server(
            "--device", "d=memory:size=64M", directory=self.directory
        ) as server:
            deaf = BlockingSession(server.url, 1)
            deaf.read(0, 1)
            before = memory_of(server.process.pid)
            deaf.socket.settimeout(1)
            # The window does not stop us: we do not look at it.
            with contextlib.suppress(OSError):
                for _number in range(20_000):
                    deaf.ask(0, 256)
            good = BlockingSession(server.url, 2)
            self.assertEqual(len(good.read(0, 8)), 4096)
            self.assertLess(memory_of(server.process.pid) - before, 64 << 20)
            deaf.close()
            good.close()

    def test_flood(self) -> None:
        """
        Connections that never log in take no more than their share: the oldest of them
        go, later logins get in, and sessions go on.
        """
        configuration = Path(self.directory) / "scst.conf"
        configuration.write_text(
            "HANDLER memory {\nDEVICE d {\nsize 1M\n}\n}\nTARGET_DRIVER iscsi {\n"
            "enabled 1\nMaxUnfinishedLogins 20\nMaxOpenConnections 40\n"
            "LoginTimeout 5\nTARGET iqn.2026-11.org.scstd:flood {\n"
            "enabled 1\nLUN 0 d\n}\n}\n"
        )
        with Server("--config", "scst.conf", directory=self.directory) as server:
            host, _colon, port = server.portal.rpartition(":")
            good = BlockingSession(server.url, 1)
            idle = [socket.create_connection((host, int(port)), 60) for _ in range(25)]
            BlockingSession(server.url, 2).close()
            idle += [socket.create_connection((host, int(port)), 60) for _ in range(60)]
            self.assertEqual(len(good.read(0, 1)), 512)
            BlockingSession(server.url, 3).close()
            for one in idle[:60]:
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(one.recv(1), b"")
            # The others are closed when their time is over.
            for one in idle[60:]:
                with contextlib.suppress(ConnectionResetError):
                    self.assertEqual(one.recv(1), b"")
            good.close()
            for one in idle:
                one.close()

    def test_slow_store(self) -> None:
        """A store that takes long for a read delays that read and nobody else's."""
        # An hour: no machine is so slow that the others would take as long.
        with Server(
            "--device",
            "slow=memory:size=1M:filter=delay read=3600",
            "--device",
            "fast=memory:size=1M",
            directory=self.directory,
            luns=2,
        ) as server:
            slow, fast = (
                BlockingSession(url, number) for number, url in enumerate(server.urls)
            )
            fast.read(0, 1)
            slow.ask(0, 1)
            self.assertIsInstance(slow.receive(), SCSIResponse)
            for _read in range(8):
                slow.ask(0, 1)
            for _read in range(200):
                self.assertEqual(len(fast.read(0, 8)), 4096)
            slow.socket.setblocking(False)
            self.assertRaises(BlockingIOError, slow.socket.recv, 1)
            server.expect_kill()
            server.process.kill()
            slow.socket.close()
            fast.socket.close()

    def test_many_sessions(self) -> None:
        """Five hundred sessions log in, idle, and then each reads."""
        count = 500
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 2 * count:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        with Server("--device", "d=memory:size=1M", directory=self.directory) as server:
            before = memory_of(server.process.pid)
            sessions = [BlockingSession(server.url, number) for number in range(count)]
            each = (memory_of(server.process.pid) - before) / count
            for one in sessions:
                self.assertEqual(len(one.read(0, 8)), 4096)
            for one in sessions:
                one.close()
        self.assertLess(each, 100_000, "bytes of memory for an idle session")
