# SPDX-License-Identifier: MIT
"""
Every stop ends, whatever a store does, and whatever else is under way; and what is
removed while everything goes on is not waited for for ever either.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd import service, twistd
from scstd.initiator.blocking import BlockingSession
from scstd.management.devices import devices
from scstd.management.errors import TreeError
from scstd.management.model.configuration import device
from scstd.management.monitor.patience import AFTER, CHANGE, CLOSING, COMMANDS, HUNG
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.scsi.nexus import Nexus
from scstd.scsi.sam import ITL, Task, TaskAttribute
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit
from scstd.test.hanging import install
from scstd.test.serving import PATIENCE, Server
from scstd.test.stores import ManualStore
from scstd.workers import front, supervisor, worker

BOUND = 60
"""Seconds in which a stop of 15 ends on a machine that is busy."""


class StopTests(TestCase):
    """
    A service with a store that does not end what it does.
    """

    timeout = 300

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def serve(self, *options: str, luns: int = 1, wait_for: str = "://") -> Server:
        """Start the service with a handler that hangs."""
        environment = install(self.directory)
        directory = str(self.directory)
        server = Server(
            *options,
            directory=directory,
            luns=luns,
            wait_for=wait_for,
            environment=environment,
        )
        self.addCleanup(server.process.wait, PATIENCE)
        self.addCleanup(server.process.kill)
        return server

    def logged(self, server: Server, word: str) -> None:
        """Wait until the log has a word."""
        until = time.monotonic() + PATIENCE
        while word not in server.log():
            self.assertLess(time.monotonic(), until, server.log())
            threading.Event().wait(0.01)

    def ended(self, server: Server, *signals: int) -> str:
        """Stop it, as soon as each signal is heard of; return its log."""
        began = time.monotonic()
        for at, number in enumerate(signals):
            server.process.send_signal(number)
            if not at:
                self.logged(server, "shutting down")
        self.assertEqual(server.process.wait(BOUND), -signal.SIGTERM)
        self.took = time.monotonic() - began
        server.stop()
        return server.log()

    def test_read(self) -> None:
        """
        A command that never ends is abandoned after 15 seconds and named; the others'
        devices are flushed.
        """
        server = self.serve(
            "--device", "bad=hanging:hang=read", "--device", "good=hanging", luns=2
        )
        session = BlockingSession(server.url, 1)
        session.do(bytes(6))
        session.ask(0, 8)
        log = self.ended(server, signal.SIGTERM)
        self.assertGreater(self.took, 14)
        self.assertIn("commands are abandoned: device bad", log)
        self.assertIn("READ(10) LBA 0 blocks 8", log)
        # Both: of what hangs in one read the writes may be good.
        self.assertEqual(log.count("flushed"), 2)
        self.assertIn("Server Shut Down", log)
        session.close()

    def test_twice(self) -> None:
        """A second signal ends it at once, and what can be flushed is."""
        server = self.serve(
            "--device", "bad=hanging:hang=read", "--device", "good=hanging", luns=2
        )
        session = BlockingSession(server.url, 1)
        session.do(bytes(6))
        session.ask(0, 8)
        log = self.ended(server, signal.SIGTERM, signal.SIGTERM)
        self.assertIn("told to stop again", log)
        self.assertEqual(log.count("flushed"), 2)
        self.assertNotIn("Traceback", log)
        session.close()

    def test_close(self) -> None:
        """A flush and a close that never end hold up no other device, nor the stop."""
        server = self.serve(
            "--device",
            "one=hanging:hang=flush",
            "--device",
            "two=hanging:hang=close",
            "--device",
            "good=hanging",
            luns=3,
        )
        log = self.ended(server, signal.SIGTERM, signal.SIGTERM)
        self.assertIn("not waited for any more: device", log)
        self.assertEqual(log.count("flushed"), 2)

    def test_thread(self) -> None:
        """Threads that Python would wait for are not."""
        server = self.serve("--device", "bad=hanging:hang=thread")
        session = BlockingSession(server.url, 1)
        session.do(bytes(6))
        session.ask(0, 8)
        session.receive()
        self.ended(server, signal.SIGTERM)
        session.close()

    def test_starting(self) -> None:
        """A start that hangs ends by the signal, too."""
        server = self.serve(
            "--device",
            "good=memory:size=1M",
            "--device",
            "d=hanging:hang=open",
            luns=0,
            wait_for="device good",
        )
        log = self.ended(server, signal.SIGTERM)
        self.assertIn("not waited for any more: the start under way", log)

    def test_reactor(self) -> None:
        """A store that blocks the reactor is named, with the line where it does."""
        server = self.serve("--device", "bad=hanging:hang=reactor")
        session = BlockingSession(server.url, 1)
        session.do(bytes(6))
        session.ask(0, 8)
        session.receive()
        session.close()
        self.logged(server, "turns again")
        self.assertIn("in scstd.test.hanging.read:", server.log())
        self.ended(server, signal.SIGTERM)

    def test_command(self) -> None:
        """With a command of --run that ignores signals its end is ours, all the same."""
        server = self.serve(
            "--device",
            "d=hanging:hang=flush",
            "--run",
            "trap '' TERM; echo $$ >pid; echo ready; while :; do sleep 1; done",
            wait_for="ready",
        )
        pid = int((self.directory / "pid").read_text(encoding="ascii"))
        server.process.terminate()
        self.logged(server, "shutting down")
        server.process.terminate()
        server.process.wait(BOUND)
        server.stop()
        with contextlib.suppress(FileNotFoundError):
            # Whoever is to take its status in may take its time.
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
            self.assertEqual(stat.rpartition(")")[2][1], "Z")


class Handler:
    """
    A handler that opens one store.
    """

    name = "manual"

    def __init__(self, store: Any) -> None:
        self.open: Any = lambda *_given: store
        self.parameters: Any = tuple


class LiveTests(TestCase):
    """
    A device that hangs, while everything else goes on.
    """

    timeout = 60

    async def system(self) -> System:
        """Return a system with a device whose store waits, and no patience."""
        self.patch(devices, "LIVE", 0.05)
        self.store = ManualStore()
        chosen = device("d", "memory", [("size", "1M")])
        chosen = attrs.evolve(chosen, handler=Handler(self.store))  # type: ignore[arg-type]
        system = System(reactor, StateDirectory(Path(self.mktemp())))
        await system.devices.add(chosen)
        return system

    def command(self, unit: LogicalUnit) -> Task:
        """Have a command at work at a unit."""
        target = Target("iqn.2026-11.org.scstd:t")
        nexus = Nexus(target, "iqn.2026-11.org.scstd:i", "i", "t")
        itl = ITL(nexus, unit, 0)
        unit.attach(itl)
        cdb = b"\x28" + bytes(7) + b"\x01" + bytes(7)
        task = Task(itl, 1, TaskAttribute.SIMPLE, cdb, 512, lambda _: None)
        unit.arrive(task)
        unit.run(task)
        return task

    @staticmethod
    async def refused(change: Coroutine[Any, Any, None]) -> TreeError:
        """Return how a change fails."""
        try:
            await change
        except TreeError as error:
            return error
        raise AssertionError("it has not failed")

    async def test_command(self) -> None:
        """A device whose command does not end stays, and goes when it has."""
        system = await self.system()
        self.command(system.devices["d"].unit)
        error = await self.refused(system.devices.remove("d"))
        self.assertEqual(error.errno, errno.ETIMEDOUT)
        self.assertIn("READ(10)", str(error))
        self.assertIn("d", system.devices)
        self.store.go()
        self.patch(devices, "LIVE", 60.0)
        gone = Deferred.fromCoroutine(system.devices.remove("d"))
        self.store.go()
        await gone
        self.assertTrue(self.store.closed)
        await system.close()

    async def test_flush(self) -> None:
        """One whose flush does not end is gone, but keeps its name until it has."""
        system = await self.system()
        chosen = system.devices["d"].configuration
        error = await self.refused(system.devices.remove("d"))
        self.assertEqual(error.errno, errno.ETIMEDOUT)
        self.assertNotIn("d", system.devices)
        again = await self.refused(system.devices.add(chosen))
        self.assertIn("still being closed", str(again))
        self.store.go()
        while not self.store.closed:
            await deferLater(reactor, 0.01, lambda: None)
        await deferLater(reactor, 0.01, lambda: None)
        await system.devices.add(chosen)
        self.patch(devices, "LIVE", 60.0)
        gone = Deferred.fromCoroutine(system.devices.remove("d"))
        self.store.go()
        await gone
        await system.close()

    async def test_opening(self) -> None:
        """A store that does not open in time cannot be opened; later it is closed."""
        self.patch(devices, "OPENING", 0.05)
        opened: Deferred[Any] = Deferred()
        store = ManualStore()
        chosen = device("d", "memory", [("size", "1M")])
        chosen = attrs.evolve(chosen, handler=Handler(opened))  # type: ignore[arg-type]
        system = System(reactor, StateDirectory(Path(self.mktemp())))
        error = await self.refused(system.devices.add(chosen))
        self.assertIn("opening it has not ended", str(error))
        opened.callback(store)
        self.assertTrue(store.closed)
        await system.close()


class BoundsTests(SynchronousTestCase):
    """
    What a stop waits for is over before the process is ended all the same.
    """

    TREE = COMMANDS + AFTER + CHANGE + CLOSING + 2 * HUNG
    """Sessions, the change under way, devices, and the state directory."""

    BEFORE = service.ENDS + CHANGE + CHANGE
    """The command of --run, ports, and the start under way."""

    def test_sum(self) -> None:
        """All that may be waited for, one after the other, is less."""
        self.assertLess(self.BEFORE + self.TREE, twistd.LONGEST)
        self.assertLess(CHANGE + self.TREE, worker.LONGEST)
        workers = worker.LONGEST + supervisor.LEAVING + front.LAST_WORDS
        self.assertLess(self.BEFORE + workers, twistd.LONGEST)

    def test_state_directory(self) -> None:
        """A state directory that hangs is waited for as long as its devices are."""
        clock = Clock()
        system = System(clock, StateDirectory(Path(self.mktemp())))
        self.patch(system.devices.lane, "close", Deferred)
        closing = Deferred.fromCoroutine(system.devices.close())
        clock.advance(CLOSING - 0.1)
        self.assertNoResult(closing)
        clock.advance(0.1)
        self.successResultOf(closing)

    def test_together(self) -> None:
        """Devices that have taken all of that leave it nothing."""
        clock = Clock()
        system = System(clock, StateDirectory(Path(self.mktemp())))

        async def closed(_patience: Any, seconds: float, _devices: Any) -> None:
            clock.advance(seconds)

        self.patch(devices.Devices, "_all_closed", staticmethod(closed))
        self.patch(system.devices.lane, "close", Deferred)
        closing = Deferred.fromCoroutine(system.devices.close())
        clock.advance(HUNG)
        self.successResultOf(closing)
