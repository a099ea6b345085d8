# SPDX-License-Identifier: MIT
"""
Tests for `scstd.workers.supervisor`, with workers in memory.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.management.errors import TreeError
from scstd.management.model.configuration import Configuration
from scstd.management.monitor.events import Event, Hub
from scstd.test.linking import Pair
from scstd.workers.supervisor import FIRST, HELLO, LAST, LEAVING, SOON, Fleet
from scstd.workers.worker import AT_ONCE, LONGEST, Settings


class Process:
    """
    A worker that answers as a test has it.
    """

    def __init__(self, pid: int, pair: Pair) -> None:
        self.pid = pid
        self.pair = pair
        self.link = pair.front
        self.over: Deferred[str] = Deferred()
        self.kills: list[int] = []

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End."""
        self.kills.append(number)
        self.die("it was killed")

    def die(self, why: str) -> None:
        """End in some way."""
        self.pair.cut()
        if not self.over.called:
            self.over.callback(why)


class FleetTests(SynchronousTestCase):
    """Workers are started, spoken to, come back, and end."""

    count = 2

    def setUp(self) -> None:
        """Have a fleet."""
        self.clock = Clock()
        self.events: list[Event] = []
        hub = Hub(self.clock.seconds)
        hub.listeners.append(self.events.append)
        self.processes: list[Process] = []
        self.given: list[tuple[Any, ...]] = []
        self.answers: dict[str, Callable[..., Any]] = {
            "hello": lambda: 1,
            "start": lambda *args: self.given.append(args),
            "portals": lambda _portals: None,
            "stop": lambda: None,
            "hurry": lambda: None,
        }
        settings = Settings(Path("/nowhere"))
        self.fleet = Fleet(self.clock, self.count, settings, hub.publish, self.make)
        self.fleet.admit = lambda place: place.start(self.part(place.number))
        self.fleet.answers = lambda _place: {"event": hub.relay}

    @staticmethod
    def part(number: int) -> Configuration:
        """Return what a worker is to have."""
        return Configuration(values={"setup_id": number})

    async def start(self) -> None:
        """Start all, each with its part."""
        await self.fleet.start()
        for one in [
            place.start(self.part(place.number)) for place in self.fleet.places
        ]:
            await one
        self.fleet.serve()

    def make(
        self, _clock: Any, number: int, answers: Mapping[str, Callable[..., Any]]
    ) -> Process:
        """Start a process."""
        made = Process(100 + len(self.processes), Pair(answers, dict(self.answers)))
        self.processes.append(made)
        self.number = number
        return made

    def carry(self) -> None:
        """Have everything that is said arrive."""
        for _time in range(4):
            for one in self.processes:
                one.pair.carry()

    def started(self) -> None:
        """Start all."""
        starting = Deferred.fromCoroutine(self.start())
        self.carry()
        self.successResultOf(starting)

    def call(self, name: str, *args: Any) -> Deferred[Any]:
        """Have the first do something."""
        return self.fleet.call(self.fleet.places[0], name, *args)

    def told(self) -> list[tuple[str, int]]:
        """Return the events, and of which worker."""
        return [(one.name, one.fields["worker"]) for one in self.events]

    def test_start(self) -> None:
        """All are started at once, each with its part, and told of."""
        starting = Deferred.fromCoroutine(self.start())
        self.assertEqual(2, len(self.processes))
        self.assertEqual([0, 1], self.fleet.absent())
        self.carry()
        self.successResultOf(starting)
        given = {one.values["setup_id"] for _settings, one in self.given}
        self.assertEqual({0, 1}, given)
        self.assertEqual([("WORKER_STARTED", 0), ("WORKER_STARTED", 1)], self.told())
        self.assertEqual([], self.fleet.absent())
        self.assertEqual([100, 101], [one.pid for one in self.fleet.places])

    def test_not_opened(self) -> None:
        """What one cannot open is why none is there."""

        def start(_settings: Settings, configuration: Configuration) -> None:
            if configuration.values["setup_id"]:
                raise ConfigurationError("device d: no such file")

        self.answers["start"] = start
        starting = Deferred.fromCoroutine(self.start())
        self.carry()
        failure = self.failureResultOf(starting, ConfigurationError)
        self.assertEqual("device d: no such file", failure.getErrorMessage())
        stopping = Deferred.fromCoroutine(self.fleet.stop())
        self.carry()
        for one in self.processes:
            one.die("it ended with status 0")
        self.successResultOf(stopping)

    def test_not_started(self) -> None:
        """One that ends before it is there: its last words are said."""
        starting = Deferred.fromCoroutine(self.start())
        self.processes[1].die("it ended with status 1: ImportError: no such module")
        failure = self.failureResultOf(starting, ConfigurationError)
        self.assertEqual(
            "worker 1 did not start: it ended with status 1: ImportError: no such"
            " module",
            failure.getErrorMessage(),
        )

    def test_hangs_at_start(self) -> None:
        """One that does not come is ended, and shows where it stands."""
        self.answers["hello"] = Deferred
        starting = Deferred.fromCoroutine(self.start())
        self.carry()
        self.clock.advance(HELLO)
        self.assertEqual(signal.SIGABRT, self.processes[0].kills[0])
        self.failureResultOf(starting, ConfigurationError)

    def test_died(self) -> None:
        """Another takes its place at once, and serves what it can; others stay."""
        self.started()
        changed: list[tuple[int, bool]] = []
        self.fleet.changed.append(
            lambda place: changed.append((place.number, place.link is not None))
        )
        self.clock.advance(SOON)
        del self.given[:], self.events[:]
        self.processes[1].die("it was ended by SIGKILL")
        self.assertEqual([1], self.fleet.absent())
        self.assertEqual(
            {"worker": 1, "pid": 101, "reason": "it was ended by SIGKILL"},
            self.events[0].fields,
        )
        self.clock.advance(0)
        self.carry()
        self.assertEqual([], self.fleet.absent())
        self.assertEqual(102, self.fleet.places[1].pid)
        ((settings, part),) = self.given
        self.assertTrue(settings.keep_going)
        self.assertEqual(1, part.values["setup_id"])
        self.assertEqual([("WORKER_DIED", 1), ("WORKER_STARTED", 1)], self.told())
        self.assertEqual([(1, False), (1, True)], changed)
        self.assertEqual([], self.processes[0].kills)

    def pauses(self, many: int) -> list[float]:
        """Have one die many times, and return the pauses until the next is there."""
        found = []
        for _time in range(many):
            count, begin = len(self.processes), self.clock.seconds()
            self.processes[-1].die("again")
            self.clock.advance(0)
            while len(self.processes) == count:
                self.clock.advance(0.5)
            found.append(self.clock.seconds() - begin)
            self.carry()
        return found

    def test_dies_soon(self) -> None:
        """One that dies again and again comes back after pauses that double."""
        self.started()
        self.assertEqual([0, FIRST, 2, 4, 8, 16, 32, LAST, LAST], self.pauses(9))
        self.clock.advance(SOON)
        self.assertEqual([0, FIRST], self.pauses(2))

    def test_dies_at_start(self) -> None:
        """One that dies before it serves again comes back as well; it told nothing."""
        self.started()
        self.answers["start"] = lambda *_args: Deferred()
        self.assertEqual([0, FIRST, 2], self.pauses(3))
        self.assertEqual(1, self.told().count(("WORKER_DIED", 1)))
        self.answers["start"] = lambda *_args: None
        self.pauses(1)
        self.assertEqual([], self.fleet.absent())

    def test_cannot_be_started_again(self) -> None:
        """What keeps a process from starting is tried again, too."""
        self.started()
        make, tried = self.make, []

        def fails(*args: Any) -> Process:
            tried.append(self.clock.seconds())
            if len(tried) < 3:
                raise OSError(errno.EAGAIN, "too many processes")
            return make(*args)

        self.patch(self.fleet, "_make", fails)
        self.processes[1].die("once")
        self.clock.pump([0, 1, 1, 1, 1])
        self.carry()
        self.assertEqual([0, 1, 3], tried)
        self.assertEqual([], self.fleet.absent())

    def test_cannot_open_again(self) -> None:
        """One that cannot open what it is to have is ended, and tried again."""
        self.started()

        def fails(*_args: Any) -> None:
            raise ConfigurationError("the state directory is full")

        self.answers["start"] = fails
        self.processes[1].die("once")
        self.clock.advance(0)
        self.carry()
        self.assertEqual([signal.SIGKILL], self.processes[2].kills)
        self.answers["start"] = lambda *_args: None
        self.clock.advance(FIRST)
        self.carry()
        self.assertEqual([], self.fleet.absent())

    def test_call(self) -> None:
        """What is called of one that is not there, or goes meanwhile, is refused."""
        self.answers["it"] = Deferred
        self.answers["other"] = lambda one: one + 1
        early = self.call("other", 1)
        self.assertEqual(
            errno.EAGAIN, self.failureResultOf(early, TreeError).value.errno
        )
        self.started()
        answered = self.call("other", 1)
        under_way = self.call("it")
        self.carry()
        self.assertEqual(2, self.successResultOf(answered))
        self.processes[0].die("it was ended by SIGKILL")
        error = self.failureResultOf(under_way, TreeError).value
        self.assertEqual(errno.ECONNRESET, error.errno)
        self.assertIn("worker 0 has ended", str(error))
        late = self.call("other", 1)
        self.assertEqual(
            errno.EAGAIN, self.failureResultOf(late, TreeError).value.errno
        )

    def test_portals(self) -> None:
        """They are told when one starts, and when they have changed."""
        heard: list[Any] = []
        self.answers["portals"] = heard.append
        self.fleet.portals = lambda: {"iscsi": ["a:1"]}
        self.started()
        self.fleet.tell_portals()
        self.carry()
        self.assertEqual([{"iscsi": ["a:1"]}] * 4, heard)

    def test_events(self) -> None:
        """What a worker tells is told here, with a number of ours."""
        self.started()
        self.processes[0].pair.worker.tell("event", Event(1, 7.5, "IO_ERROR", {}))
        self.carry()
        self.assertEqual(Event(3, 7.5, "IO_ERROR", {}), self.events[-1])

    def test_stop(self) -> None:
        """All end at once; then their links do, and nobody takes a place."""
        self.started()
        stopped: list[Deferred[None]] = []

        def stop() -> Deferred[None]:
            stopped.append(Deferred())
            return stopped[-1]

        for process in self.processes:
            process.pair.worker._answers["stop"] = stop  # type: ignore[index]
        stopping = Deferred.fromCoroutine(self.fleet.stop())
        self.carry()
        self.assertEqual(2, len(stopped))
        self.assertTrue(all(process.link.connected for process in self.processes))
        for one in stopped:
            one.callback(None)
        self.carry()
        self.assertFalse(any(process.link.connected for process in self.processes))
        self.assertNoResult(stopping)
        for process in self.processes:
            process.die("it ended with status 0")
        self.successResultOf(stopping)
        self.clock.advance(LAST)
        self.assertEqual(2, len(self.processes))
        self.assertNotIn("WORKER_DIED", [name for name, _worker in self.told()])

    def test_stop_between(self) -> None:
        """One that was to come back does not when everything ends."""
        self.started()
        self.processes[0].die("it was ended by SIGKILL")
        stopping = Deferred.fromCoroutine(self.fleet.stop())
        self.carry()
        self.processes[1].die("it ended with status 0")
        self.successResultOf(stopping)
        self.clock.advance(LAST)
        self.assertEqual(2, len(self.processes))

    def test_does_not_end(self) -> None:
        """One that does not end is killed in the end."""
        self.started()
        for one in self.processes:
            one.pair.worker._answers["stop"] = Deferred  # type: ignore[index]
        stopping = Deferred.fromCoroutine(self.fleet.stop())
        self.carry()
        self.clock.advance(LONGEST)
        self.carry()
        self.assertEqual([], self.processes[0].kills)
        self.clock.advance(LEAVING)
        self.successResultOf(stopping)
        self.assertEqual([signal.SIGKILL], self.processes[0].kills)

    def test_hurry(self) -> None:
        """Told to hurry, all are, and what does not end in time is killed."""
        self.started()
        hurried: list[int] = []
        for one in self.processes:
            answers: Any = one.pair.worker._answers
            answers.update(stop=Deferred, hurry=lambda: hurried.append(1))
        stopping = Deferred.fromCoroutine(self.fleet.stop())
        self.carry()
        self.fleet.hurry()
        self.carry()
        self.assertEqual([1, 1], hurried)
        self.assertNoResult(stopping)
        self.clock.advance(AT_ONCE / 2)
        self.successResultOf(stopping)
        self.assertEqual([signal.SIGKILL], self.processes[0].kills)

    def test_watched(self) -> None:
        """One that gives no sign of life is ended, and another takes its place."""
        self.started()
        self.fleet.watch(10)
        for _time in range(3):
            self.clock.advance(10)
            self.carry()
        self.assertEqual(2, len(self.processes))
        self.processes[1].pair.worker._answers["hello"] = Deferred  # type: ignore[index]
        self.clock.advance(10)
        self.carry()
        self.clock.advance(10)
        self.assertEqual([signal.SIGABRT], self.processes[1].kills)
        self.clock.advance(0)
        self.carry()
        self.assertEqual([], self.fleet.absent())
        self.assertEqual([], self.processes[0].kills)
