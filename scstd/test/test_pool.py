# SPDX-License-Identifier: MIT
"""
Tests for `scstd.pool`: how many threads there are, and who gets them.
"""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd import pool
from scstd.blocking import Lane, threads_at
from scstd.initiator.commands import read10, write10
from scstd.scsi.sam import Status
from scstd.scsi.sense import ASC, SenseKey
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore


class Reactor:
    """
    The reactor, with threads of its own.
    """

    def __init__(self) -> None:
        self.callLater: Any = reactor.callLater
        self.callFromThread: Any = reactor.callFromThread  # type: ignore[attr-defined]


class PoolTests(TestCase):
    """
    Lanes with threads that hang, and others.
    """

    timeout = 60

    def setUp(self) -> None:
        """Have a reactor, and let every thread go at the end."""
        self.reactor = Reactor()
        self.pool = pool.pool_of(self.reactor)
        self.thaw = threading.Event()
        self.addCleanup(self.thaw.set)

    def limit(self, **limits: float) -> None:
        """Have other limits."""
        for name, value in limits.items():
            self.patch(pool, name, value)

    def lanes(self, count: int, threads: int = 1) -> list[Lane]:
        """Return the lanes of so many stores."""
        return [
            Lane(self.reactor, f"d{number} read", threads) for number in range(count)
        ]

    def hang(self, lanes: list[Lane], calls: int = 1) -> list[Deferred[Any]]:
        """Have each lane make calls that do not end."""
        return [
            lane.call(self.thaw.wait, 50) for lane in lanes for _call in range(calls)
        ]

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait for something; the test's time-out is how long."""
        while not so():
            await deferLater(reactor, 0.01, lambda: None)

    async def test_bounded(self) -> None:
        """A thousand lanes at work have the threads for everybody, and no more."""
        lanes = self.lanes(1000, 4)
        most = 0

        def work() -> None:
            nonlocal most
            most = max(most, len(self.pool.workers))

        await gatherResults([lane.call(work) for lane in lanes for _call in range(4)])
        self.assertLessEqual(most, pool.BASE)
        for lane in lanes:
            await lane.close()

    async def test_idle(self) -> None:
        """Threads that have nothing to do end, and others are started when needed."""
        self.limit(IDLE=0.02)
        lane = Lane(self.reactor, "d read", 3)
        for _round in range(2):
            await gatherResults([lane.call(len, "") for _call in range(9)])
            await self.until(lambda: not self.pool.workers)

    async def test_hung(self) -> None:
        """Stores that hang take no thread from the others."""
        self.limit(BASE=2, STANDS=0.02)
        hung = self.hang(self.lanes(8, 4), 3)
        healthy = Lane(self.reactor, "healthy write")
        for number in range(20):
            self.assertEqual(await healthy.call(abs, -number), number)
        self.assertFalse(self.thaw.is_set())
        self.thaw.set()
        await gatherResults(hung)

    async def test_most(self) -> None:
        """However many hang, there are so many threads and one for each store."""
        self.limit(BASE=2, EXTRA=3, STANDS=0.02)
        stores = 10
        hung = self.hang(self.lanes(stores, 9), 9)
        await self.until(
            lambda: all(threads_at(self.reactor, f"d{n}") for n in range(stores))
        )
        # What else waits would be looked at several times meanwhile.
        await deferLater(reactor, 0.5, lambda: None)
        self.assertLessEqual(len(self.pool.workers), 2 + 3 + stores)
        healthy = Lane(self.reactor, "healthy write")
        self.assertEqual(await healthy.call(abs, -1), 1)
        self.thaw.set()
        await gatherResults(hung)

    async def test_same_store(self) -> None:
        """A store of which one call stands still gets threads for its others."""
        self.limit(BASE=2, STANDS=0.02)
        flush = Lane(self.reactor, "d flush")
        (stuck,) = self.hang([flush])
        await self.until(lambda: bool(self.pool.standing(0.02)))
        other, read = Lane(self.reactor, "e read"), Lane(self.reactor, "d read", 4)
        await gatherResults([other.call(len, "") for _call in range(3)])
        await gatherResults([read.call(len, "") for _call in range(9)])
        self.assertFalse(stuck.called)
        self.thaw.set()
        await stuck

    async def test_turns(self) -> None:
        """A lane that never has nothing to do leaves others their turn."""
        self.limit(BASE=1)
        busy, other = self.lanes(2)
        over: list[bool] = []

        def more(_result: object = None) -> None:
            if not over:
                busy.call(len, "").addCallback(more)

        for _call in range(8):
            more()
        await other.call(len, "")
        over.append(True)
        await busy.close()

    async def test_standing(self) -> None:
        """A call that is under way can be named, the oldest first."""
        lane = Lane(self.reactor, "d0 write")
        (stuck,) = self.hang([lane])
        await self.until(lambda: bool(self.pool.standing(0.0)))
        (found,) = self.pool.standing(0.0)
        self.assertEqual((found.lane, found.store), ("d0 write", "d0"))
        self.assertEqual(found.args, (50,))
        self.assertEqual(self.pool.standing(1000.0), [])
        self.thaw.set()
        await stuck
        await self.until(lambda: not self.pool.standing(0.0))

    async def test_no_thread(self) -> None:
        """Where no thread can be started calls fail, and nothing is stuck after that."""
        lane = Lane(self.reactor, "d write")
        refusing = mock.patch("threading.Thread.start", side_effect=RuntimeError("no"))
        with refusing:
            for _attempt in range(2):
                calls = [lane.call(len, "") for _call in range(3)]
                for call in calls:
                    error = await self.assertFailure(call, OSError)
                    self.assertEqual(error.errno, errno.EAGAIN)
            last = lane.call(len, "")
            closed = lane.close()
            await self.assertFailure(last, OSError)
            await closed
        self.assertEqual(await lane.call(len, "abc"), 3)
        await lane.close()

    async def test_no_further_thread(self) -> None:
        """With one thread and no other all calls are made, one after the other."""
        first, *others = self.lanes(20, 2)
        await first.call(len, "")
        with mock.patch("threading.Thread.start", side_effect=RuntimeError("no")):
            calls = [lane.call(len, "ab") for lane in others for _call in range(2)]
            self.assertEqual(await gatherResults(calls), [2] * len(calls))
        self.assertEqual(len(self.pool.workers), 1)

    async def test_only_thread_hangs(self) -> None:
        """When all threads there are hang the calls of others fail, and work again."""
        self.limit(STANDS=0.02)
        hanging, other = self.lanes(2)
        (stuck,) = self.hang([hanging])
        await self.until(lambda: bool(self.pool.standing(0.0)))
        with mock.patch("threading.Thread.start", side_effect=OSError("no")):
            await self.assertFailure(other.call(len, ""), OSError)
        self.assertEqual(await other.call(len, "a"), 1)
        self.assertFalse(stuck.called)
        self.thaw.set()
        await stuck


class BusyTests(SynchronousTestCase):
    """
    What an initiator is told of it.
    """

    def busy(self, cdb: bytes, data: bytes = b"") -> Any:
        """Return how a command ends whose first call of the store fails with EAGAIN."""
        store = ManualStore()
        initiator = Initiator(serve(store)[0]).ready()
        pdu = initiator.command(
            cdb, write=len(data), read=0 if data else 512, data=data
        )
        initiator.send(pdu)
        store.fail(OSError(errno.EAGAIN, "no thread"))
        return initiator.finish(pdu)

    def test_busy(self) -> None:
        """A command that can be sent again ends with BUSY: initiators do that."""
        for cdb, data in ((read10(0, 1), b""), (write10(0, 1), bytes(512))):
            self.assertEqual(self.busy(cdb, data).status, Status.BUSY)

    def test_once(self) -> None:
        """One that must not be carried out twice fails."""
        compare = struct.pack(">BBQxxxBxx", 0x89, 0, 0, 1)
        done = self.busy(compare, bytes(1024))
        self.assertEqual(done.status, Status.CHECK_CONDITION)
        self.assertEqual(done.key, SenseKey.HARDWARE_ERROR)
        self.assertEqual(done.asc, ASC.INSUFFICIENT_RESOURCES)
