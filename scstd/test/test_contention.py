# SPDX-License-Identifier: MIT
"""
Tests for COMPARE AND WRITE by many at once, over real connections.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path

from twisted.trial.unittest import TestCase

from scstd.initiator.blocking import BlockingSession
from scstd.test.serving import Server

SESSIONS = 8


class Counting:
    """
    One session that adds one to the counter in block 0, again and again.
    """

    def __init__(self, url: str, number: int, wanted: int) -> None:
        self.wanted = wanted
        self.session = BlockingSession(url, number)
        self.session.read(0, 1)
        self.added = 0
        self.lost = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        """Add one until this session has done its share."""
        cdb = struct.pack(">BBQxxxBxx", 0x89, 0, 0, 1)
        found = self.session.read(0, 1)
        while self.added < self.wanted:
            (count,) = struct.unpack_from(">Q", found)
            wanted = struct.pack(">Q", count + 1).ljust(512, b"\0")
            done = self.session.do(cdb, data=found + wanted)
            status, sense = done.status, done.sense
            if status == 0:
                self.added += 1
                found = wanted
            elif status == 2 and sense[2] & 0xF == 0xE and sense[12] == 0x1D:
                self.lost += 1
                found = self.session.read(0, 1)
            else:
                self.wrong.append(f"{status} {sense.hex()}")
                break


class CounterTests(TestCase):
    """
    Eight sessions and one counter.
    """

    timeout = 120

    def count(self, device: str, wanted: int) -> None:
        """Have the counter of a device incremented *wanted* times."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        share = wanted // SESSIONS
        with Server("--device", device, directory=str(directory)) as server:
            everyone = [
                Counting(server.url, number, share) for number in range(SESSIONS)
            ]
            threads = [threading.Thread(target=one.run) for one in everyone]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            data = everyone[0].session.read(0, 1)
            for one in everyone:
                one.session.close()
        self.assertEqual([one.wrong for one in everyone], [[]] * SESSIONS)
        self.assertEqual(int.from_bytes(data[:8], "big"), wanted)
        # Else it has tried nothing.
        self.assertGreater(sum(one.lost for one in everyone), SESSIONS)

    def test_none_is_lost(self) -> None:
        """Ten thousand increments by eight sessions at once are ten thousand."""
        self.count("d=memory:size=1M", 10_000)

    def test_with_threads(self) -> None:
        """Nor where the store's threads write: in pieces of a page."""
        self.count("d=vdisk_fileio:filename=disk.img:size=1M", 400)
