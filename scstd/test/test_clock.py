# SPDX-License-Identifier: MIT
"""
Tests for `scstd.steady`: the wall clock is set, and nothing happens but that dates are
others.
"""

from __future__ import annotations

import glob
import socket
import struct
import time
from pathlib import Path
from typing import Any

from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.initiator.blocking import BlockingSession
from scstd.management.monitor.events import Event
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.scsi.device import open_disk
from scstd.steady import keep_time
from scstd.test.clients import need
from scstd.test.initiator import Initiator, serve
from scstd.test.serving import Server
from scstd.test.stores import memory

HOUR = 3600.0


class SteadyTests(SynchronousTestCase):
    """
    The clock of a reactor.
    """

    def setUp(self) -> None:
        """Have a wall clock that can be set."""
        self.ahead = 0.0
        wall = time.time
        self.patch(time, "time", lambda: wall() + self.ahead)

    def test_set(self) -> None:
        """Time goes on as before when the clock is set, either way."""
        reactor: Any = SelectReactor()
        reactor.seconds = time.time
        before = time.time()
        keep_time(reactor)
        for self.ahead in (HOUR, -HOUR):
            self.assertLess(abs(reactor.seconds() - before), 60)

    def test_timers(self) -> None:
        """What is to happen at once does, though the clock went back meanwhile."""
        reactor: Any = SelectReactor()
        reactor.seconds = time.time
        seen: list[str] = []
        reactor.callLater(0, seen.append, "before")
        keep_time(reactor)
        reactor.callLater(0, seen.append, "after")
        late = reactor.callLater(HOUR / 2, seen.append, "late")
        self.ahead = -HOUR
        reactor.runUntilCurrent()
        self.assertEqual(sorted(seen), ["after", "before"])
        self.ahead = HOUR
        reactor.runUntilCurrent()
        self.assertTrue(late.active())

    def test_own_clock(self) -> None:
        """A reactor that has another clock than the wall's keeps it."""
        clock = Clock()
        seconds = clock.seconds
        keep_time(clock)
        self.assertEqual(clock.seconds, seconds)

    def test_twice(self) -> None:
        """It is done once, however often it is asked for."""
        reactor: Any = SelectReactor()
        keep_time(reactor)
        first = reactor.seconds
        keep_time(reactor)
        self.assertIs(reactor.seconds, first)

    def test_system(self) -> None:
        """A system's reactor keeps time; its events have the date that it is now."""
        reactor: Any = SelectReactor()
        system = System(reactor, StateDirectory(Path(self.mktemp())), date=lambda: 42.0)
        seen: list[Event] = []
        system.events.listeners.append(seen.append)
        system.events.publish("REG_VIRT_DEV")
        self.assertEqual(seen[0].time, 42.0)
        self.assertIsNot(reactor.seconds, SelectReactor.seconds)


class DeviceClockTests(SynchronousTestCase):
    """
    The clock that an initiator sees.
    """

    def test_timestamp(self) -> None:
        """The host's time until one is set, which goes on whatever becomes of that."""
        now = {"wall": 1000.0, "steady": 5.0}
        node, target, _units = serve()
        unit = open_disk(
            "disk", memory(), clock=lambda: now["wall"], steady=lambda: now["steady"]
        )
        target.add_lun(0, unit)
        initiator = Initiator(node).ready()

        def timestamp() -> float:
            done = initiator.do(struct.pack(">BBxxxxIxx", 0xA3, 0x0F, 12), read=12)
            return int.from_bytes(done.data[4:10], "big") / 1000

        now["wall"] = 2000.0
        self.assertEqual(timestamp(), 2000.0)
        data = bytes(4) + (500_000).to_bytes(6, "big") + bytes(2)
        done = initiator.do(struct.pack(">BBxxxxIxx", 0xA4, 0x0F, 12), data=data)
        self.assertEqual(done.status, 0)
        now.update(wall=9000.0, steady=7.0)
        self.assertEqual(timestamp(), 502.0)


class StepTests(TestCase):
    """
    A service whose wall clock is set while it runs.
    """

    timeout = 120

    def setUp(self) -> None:
        """Make a directory, and a clock to set."""
        need("faketime")
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.stamp = self.directory / "clock"
        self.set("+0s")

    def set(self, ahead: str) -> None:
        """Set the clock of the service."""
        new = self.stamp.with_suffix(".new")
        new.write_text(f"{ahead}\n", encoding="ascii")
        new.replace(self.stamp)

    def server(self, *options: str) -> Server:
        """Start a service with that clock."""
        (library,) = glob.glob("/usr/lib*/*/faketime/libfaketimeMT.so.1")  # noqa: PTH207
        environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self.stamp),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        return Server(*options, directory=str(self.directory), environment=environment)

    def test_steps(self) -> None:
        """Back and forth: commands go on, and so do logins and their time-out."""
        configuration = self.directory / "scst.conf"
        configuration.write_text(
            "HANDLER vdisk_fileio {\nDEVICE d {\nfilename disk.img\nsize 1M\n}\n}\n"
            "TARGET_DRIVER iscsi {\nenabled 1\nLoginTimeout 2\n"
            "TARGET iqn.2026-11.org.scstd:t {\nenabled 1\nLUN 0 d\n}\n}\n",
            encoding="ascii",
        )
        with self.server("--config", "scst.conf") as server:
            session = BlockingSession(server.url, 1)
            session.read(0, 1)
            host, _colon, port = server.portal.rpartition(":")
            for step in ("-1h", "+10m", "-400d", "+0s"):
                self.set(step)
                for number in range(100):
                    # No whole pages: a thread writes them.
                    done = session.do(
                        struct.pack(">BBIBHB", 0x2A, 0, number * 3 + 1, 0, 1, 0),
                        data=bytes(512),
                    )
                    self.assertEqual(done.status, 0)
                silent = socket.create_connection((host, int(port)), 30)
                self.assertEqual(silent.recv(1), b"")
                silent.close()
            BlockingSession(server.url, 2).close()
            session.close()
