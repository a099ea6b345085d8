# SPDX-License-Identifier: MIT
"""
Tests for what does not end: `scstd.management.monitor.stalls` names it,
`scstd.management.monitor.patience` waits for it no longer than it may, `scstd.process.heartbeat` says
who held the reactor.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import provider

from scstd.blocking import Lane
from scstd.initiator.commands import read10
from scstd.management.monitor import stalls
from scstd.management.monitor.patience import Patience
from scstd.management.monitor.stalls import StallWatch
from scstd.process import heartbeat
from scstd.process.heartbeat import Heartbeat
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore


def lines_of(test: SynchronousTestCase) -> list[str]:
    """
    Return a list that our own lines of the log come to until the end of a test.
    """
    lines: list[str] = []

    @provider(ILogObserver)
    def hear(event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith("scstd."):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(hear)
    test.addCleanup(globalLogPublisher.removeObserver, hear)
    return lines


class PatienceTests(SynchronousTestCase):
    """
    Waiting in bounds.
    """

    def setUp(self) -> None:
        """Have a clock."""
        self.clock = Clock()
        self.patience = Patience(self.clock)
        self.lines = lines_of(self)

    def wait(self, waited: Any) -> Deferred[bool]:
        """Wait for ten seconds."""
        return Deferred.fromCoroutine(self.patience.within(10, waited, lambda: "it"))

    def test_in_time(self) -> None:
        """What comes in time has come, and no timer is left."""
        waited: Deferred[None] = Deferred()
        over = self.wait(waited)
        self.clock.advance(9)
        waited.callback(None)
        self.assertTrue(self.successResultOf(over))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.lines, [])

    def test_too_late(self) -> None:
        """What does not is given up, and named; when it fails later, that is told."""
        waited: Deferred[None] = Deferred()
        over = self.wait(waited)
        self.clock.advance(10)
        self.assertFalse(self.successResultOf(over))
        self.assertEqual(self.lines, ["not waited for any more: it"])
        waited.errback(OSError("too late"))
        self.assertEqual(self.lines[1:], ["after all: too late"])

    def test_failure(self) -> None:
        """What fails in time fails here."""
        self.failureResultOf(self.wait(fail(OSError())), OSError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hurry(self) -> None:
        """In a hurry nothing is waited for: not what is, nor what comes later."""
        one = self.wait(Deferred())
        self.patience.hurry()
        two = self.wait(Deferred())
        for over in (one, two):
            self.assertFalse(self.successResultOf(over))
        done: Deferred[None] = Deferred()
        done.callback(None)
        self.assertTrue(self.successResultOf(self.wait(done)))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class StallTests(SynchronousTestCase):
    """
    Commands of a store that does not end them.
    """

    def setUp(self) -> None:
        """Have a device whose store waits, and somebody who looks."""
        self.clock = Clock()
        self.store = ManualStore()
        node, _target, (unit,) = serve(self.store)
        self.initiator = Initiator(node).ready()
        self.watch = StallWatch(self.clock, lambda: [(unit, "manual")])
        self.watch.start()
        self.addCleanup(self.watch.stop)
        self.lines = lines_of(self)

    def pass_time(self, seconds: int) -> None:
        """Let so much time pass."""
        for _second in range(seconds):
            self.clock.advance(1)

    def test_named(self) -> None:
        """
        One that does not end is named once, with device, handler, command, place and
        time; then rarely; and once more when it has ended.
        """
        self.initiator.send(self.initiator.command(read10(8, 8), read=4096))
        self.pass_time(4)
        self.assertEqual(self.lines, [])
        self.pass_time(3)
        (line,) = self.lines
        for word in ("disk0 (manual)", "READ(10)", "offset 4096, 4096 bytes", " 5 s"):
            self.assertIn(word, line)
        self.assertIn(self.initiator.name, line)
        self.pass_time(50)
        self.assertEqual(len(self.lines), 1)
        self.pass_time(3600)
        self.assertEqual(len(self.lines), 7)
        self.store.go()
        self.pass_time(2)
        self.assertEqual(len(self.lines), 8)
        self.assertIn("has ended", self.lines[-1])

    def test_many(self) -> None:
        """A device has one line, however many commands it has."""
        for _command in range(20):
            self.initiator.send(self.initiator.command(read10(0, 1), read=512))
        self.pass_time(10)
        (line,) = self.lines
        self.assertIn("and 19 more", line)

    def test_quick(self) -> None:
        """Those that end are not named, however busy the store is."""
        for _command in range(30):
            self.initiator.send(self.initiator.command(read10(0, 1), read=512))
            self.pass_time(1)
            self.store.go()
        self.assertEqual(self.lines, [])


class ThreadTests(TestCase):
    """
    Calls of threads that do not end, of no device.
    """

    timeout = 60

    async def test_named(self) -> None:
        """A thread of the state directory is named with what it is in."""
        self.patch(stalls, "SLOW", 0.0)
        lines = lines_of(self)
        lane, thaw = Lane(reactor, "state"), threading.Event()
        call = lane.call(thaw.wait, 50)
        watch = StallWatch(reactor, list)
        while not lines:
            watch.look()
            await deferLater(reactor, 0.01, lambda: None)
        self.assertIn("state (no device)", lines[0])
        self.assertIn("Event.wait(50)", lines[0])
        thaw.set()
        await call
        while len(lines) < 2:
            watch.look()
            await deferLater(reactor, 0.01, lambda: None)
        self.assertIn("has ended", lines[-1])


class HeartbeatTests(TestCase):
    """
    A reactor that stands still.
    """

    timeout = 60

    async def until(self, lines: list[str], word: str) -> str:
        """Return a line with a word, when there is one."""
        while True:
            for line in lines:
                if word in line:
                    return line
            await deferLater(reactor, 0.01, lambda: None)

    async def test_held(self) -> None:
        """Who held it is named while it stands, and how long it stood after that."""
        lines = lines_of(self)
        seen = threading.Event()

        @provider(ILogObserver)
        def hear(_event: LogEvent) -> None:
            seen.set()

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        beat = Heartbeat(reactor, 0.2, 0.02)
        beat.start()
        self.addCleanup(beat.stop)
        await deferLater(reactor, 0.1, lambda: None)

        def hold_the_reactor() -> None:
            # It is named by the other thread, while we are here.
            seen.clear()
            seen.wait(50)

        hold_the_reactor()
        line = await self.until(lines, "stands still")
        self.assertIn("hold_the_reactor", line)
        self.assertIn("turns again", await self.until(lines, "turns again"))

    async def test_ends(self) -> None:
        """Nobody listens any more when it has stopped."""
        beat = Heartbeat(reactor, 0.2, 0.02)
        beat.start()
        beat.stop()
        while any(one.name == "heartbeat" for one in threading.enumerate()):
            await deferLater(reactor, 0.01, lambda: None)

    def test_stopped(self) -> None:
        """A process that did not run is told apart from a call that held it."""
        lines = lines_of(self)
        beat = Heartbeat(reactor)
        beat._missed(100.0, 0.0)
        beat._missed(100.0, 99.0)
        self.assertIn("the process did not run for 100.0 s", lines[0])
        self.assertIn("let no thread run for 100.0 s", lines[1])

    def test_where(self) -> None:
        """A stack is shown in one line, its end first."""
        shown = heartbeat.where(sys._getframe())
        self.assertTrue(shown.startswith("scstd.test.test_stalls.test_where:"), shown)
        self.assertNotIn("\n", shown)


class LastResortTests(TestCase):
    """
    A process that does not end by itself.
    """

    def run_it(self, code: str) -> tuple[int, str]:
        """Run a program that arms the last resort; return how it ended."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=False,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return done.returncode, done.stdout

    def test_thread(self) -> None:
        """Threads that Python would wait for hold it no longer, and its status stays."""
        code = (
            "import threading\nfrom scstd.process.last_resort import LAST\n"
            "threading.Thread(target=threading.Event().wait).start()\n"
            "LAST.status = 7\nLAST.arm(0.1)\nprint('out', end='')\n"
        )
        began = time.monotonic()
        self.assertEqual(self.run_it(code), (7, "out"))
        self.assertLess(time.monotonic() - began, 60)

    def test_signal(self) -> None:
        """Without a status it ends by the signal that has stopped the reactor."""
        code = (
            "import threading, signal\nfrom scstd.process.last_resort import LAST\n"
            "class Reactor: _exitSignal = signal.SIGTERM\n"
            "signal.signal(signal.SIGTERM, lambda *_: None)\n"
            "LAST.arm(0.1, Reactor)\nthreading.Event().wait()\n"
        )
        self.assertEqual(self.run_it(code)[0], -15)
