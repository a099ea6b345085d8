# SPDX-License-Identifier: MIT
"""
Tests for reads that are sent from the page cache itself (`FilePart`).
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from scstd.test.plain import PlainSession
from scstd.test.serving import Server

CONTENT = random.Random(7).randbytes(4 << 20)
LARGE = (("MaxRecvDataSegmentLength", "262144"), ("MaxBurstLength", "1048576"))


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
            "d=vdisk_fileio:filename=disk.img",
            directory=str(self.directory),
        )

    def test_all_sizes(self) -> None:
        """Large reads of any size and place, in long and in short segments."""
        chance = random.Random(1)
        with self.served() as server:
            for number, keys in enumerate((LARGE, ())):
                session = PlainSession(server.url, number, *keys)
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
            session = PlainSession(server.url, 1, *LARGE)
            session.read(0, 1)
            for number in range(24):
                session.ask(number * 128, 2048)
            other = PlainSession(server.url, 2)
            self.assertEqual(other.read(8, 8), CONTENT[4096:8192])
            for number in range(24):
                start = number * 65536
                self.assertEqual(session.whole(), CONTENT[start : start + (1 << 20)])
            session.close()
            other.close()

    def test_cut_off(self) -> None:
        """A file cut off under reads ends in an error for them and for nobody else."""
        with self.served() as server:
            session = PlainSession(server.url, 1, *LARGE)
            session.read(0, 1)
            session.ask(4096, 2048)
            self.assertEqual(session.whole(), CONTENT[2 << 20 : 3 << 20])
            os.truncate(self.path, 1 << 20)
            session.ask(4096, 2048)
            with contextlib.suppress(ConnectionError):
                answer = session.receive()
                self.assertEqual((answer[0] & 0x3F, answer[3]), (0x21, 2))
            other = PlainSession(server.url, 2)
            self.assertEqual(other.read(8, 8), CONTENT[4096:8192])
            other.close()
            session.close()
        self.assertNotIn("Traceback", server.log())
