# SPDX-License-Identifier: MIT
"""
What a storm (`scstd.test.storm`) blows through: a reactor without sockets, threads and
stores that end their calls when, and in which order, the storm likes, and initiators.

Every write carries a number that says which command it is of.  A store that is handed
it knows from that whether it may be: of a command to this very device, that has not
ended.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.handlers.memory import MemoryStore
from scstd.interfaces import Buffer, IResize, IResizeNotice, Result
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.system import System
from scstd.protocols.engine.node import Node
from scstd.scsi.aca import FaultedTaskSet
from scstd.scsi.sam import TaskAttribute
from scstd.scsi.unit import LogicalUnit

BLOCK = 512
ROOM = 4 << 20
"""Bytes that the memory of a store has: its size may change below that."""


@attrs.define(eq=False)
class Work:
    """
    A command under way: *store* is where its LUN led to when it was sent.  It has
    *ended* when nothing of it may be done any more; with a *status*, if it had one.
    """

    number: int
    store: Any
    lba: int = 0
    data: bytes = attrs.field(default=b"", repr=False)
    floor: int = 0
    """Of the writes of its block, the last that was over when it was sent."""
    task: Any = attrs.field(default=None, repr=False)
    """What the target has made of it, if its turn has come."""
    ended: bool = False
    status: int | None = None
    got: bytearray = attrs.field(factory=bytearray, repr=False)
    on_end: Callable[[Work], object] = lambda _work: None

    def end(self, status: int | None) -> None:
        """
        Note that it has ended.
        """
        if not self.ended:
            self.ended, self.status = True, status
            self.on_end(self)


@attrs.define(eq=False)
class Calls:
    """
    Calls that wait, of stores, threads and ports: *name* is what they are told by.
    """

    rng: random.Random
    waiting: list[tuple[str, Deferred[Any], Callable[[], Any]]] = attrs.field(
        factory=list
    )
    failing: float = 0.0
    """How likely a call is to fail with EIO."""

    def wait(
        self, name: str, call: Callable[[], Any], *, now: float = 0.0
    ) -> Result[Any]:
        """
        Return what a call returns, later; or with the likelihood *now* at once.
        """
        if self.rng.random() < now:
            return call()
        deferred: Deferred[Any] = Deferred()
        self.waiting.append((name, deferred, call))
        return deferred

    def go(self, *, ordered: bool = False) -> None:
        """
        Let a call happen, any or the oldest; or fail.
        """
        at = 0 if ordered else self.rng.randrange(len(self.waiting))
        _name, deferred, call = self.waiting.pop(at)
        try:
            if self.rng.random() < self.failing:
                raise OSError(errno.EIO, "as the storm likes")  # noqa: TRY301
            result = call()
        except (OSError, ConfigurationError, ValueError):
            deferred.errback(Failure())
        else:
            deferred.callback(result)


class Thread(Lane):
    """
    A lane whose calls wait.
    """

    def __init__(self, calls: Calls) -> None:
        super().__init__(None, "")
        self.calls = calls

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Make it, later."""
        made: Deferred[Any] = self.calls.wait("thread", lambda: function(*args))
        return made

    def close(self) -> Deferred[None]:
        """End after all of them."""
        ended: Deferred[None] = self.calls.wait("thread", lambda: None)
        return ended


@implementer(IResize, IResizeNotice)
class Store(MemoryStore):
    """
    Memory that takes its time.
    """

    def __init__(
        self,
        calls: Calls,
        works: dict[bytes, Work],
        faults: list[str],
        name: str,
        size: int,
    ) -> None:
        super().__init__(ROOM, BLOCK)
        self.size = self.actual = size
        self.calls, self.works, self.faults = calls, works, faults
        self.name = name
        self.closed = False
        self.under_way: list[str] = []
        self.spoiled = False
        self.busy: set[int] = set()
        """Blocks that are being written."""
        self.tags: dict[int, list[bytes]] = {}
        """What was written to each block, one after the other."""
        self.floors: dict[int, int] = {}
        """Which of these is surely there."""
        self._told: Callable[[int], object] = lambda _size: None

    def _later(
        self, name: str, call: Callable[[], Any], data: Buffer = b""
    ) -> Result[Any]:
        work = self.works.get(bytes(data[:16]))
        self._check(name, work)
        self.under_way.append(name)

        def made() -> Any:
            self._check(name, work)
            return call()

        def over(result: Any) -> Any:
            self.under_way.remove(name)
            return result

        result = self.calls.wait("store", made, now=0.3)
        if isinstance(result, Deferred):
            return result.addBoth(over)
        return over(result)

    def _check(self, name: str, work: Work | None) -> None:
        if self.closed:
            self.faults.append(f"{name} of {self.name}, which is closed")
        if work is None:
            return
        if work.store is not self:
            self.faults.append(f"{name} at the wrong device: {work}")
        if work.ended:
            self.faults.append(f"{name} after its command has ended: {work}")

    def begin(self, work: Work, tag: bytes) -> bool:
        """
        Note a write that begins, and say whether it may: one at a time.
        """
        if work.lba in self.busy:
            return False
        self.busy.add(work.lba)
        self.tags.setdefault(work.lba, [bytes(16)]).append(tag)
        work.data, work.on_end = tag * (BLOCK // 16), self.written
        return True

    def written(self, work: Work) -> None:
        """
        Note that a write has ended, and is there if that was with GOOD status.
        """
        self.busy.discard(work.lba)
        if work.status == 0:
            self.floors[work.lba] = len(self.tags[work.lba]) - 1

    def was_read(self, work: Work) -> None:
        """
        See that a read has found what may be there.
        """
        if work.status == 0 and not self.spoiled:
            may = self.tags.get(work.lba, [bytes(16)])[work.floor :]
            found = bytes(work.got)
            if found not in [tag * (BLOCK // 16) for tag in may]:
                self.faults.append(f"wrong data: {work}")

    def read(self, offset: int, length: int) -> Any:
        """Read, later."""
        inner = super().read
        return self._later("read", lambda: inner(offset, length))

    def write(self, offset: int, data: Buffer, fua: bool) -> Any:
        """Write, later."""
        kept, inner = bytes(data), super().write
        return self._later("write", lambda: inner(offset, kept, fua), kept)

    def flush(self) -> Any:
        """Flush, later."""
        return self._later("flush", lambda: None)

    def unmap(self, offset: int, length: int) -> Any:
        """Unmap, later."""
        inner = super().unmap
        return self._later("unmap", lambda: inner(offset, length))

    def write_zeroes(self, offset: int, length: int, fua: bool) -> Any:
        """Do what unmap does."""
        return self.unmap(offset, length)

    def on_resize(self, call: Callable[[int], object]) -> None:
        """Note whom to tell."""
        self._told = call

    def resync_size(self) -> Any:
        """Take over the size that the storm has given it."""
        return self._later("resync", lambda: self._resized(self.actual))

    def resize(self, size: int) -> Any:
        """Be of another size, later."""
        if not 0 < size <= ROOM or size % self.block_size:
            raise ConfigurationError("no such size")
        return self._later("resize", lambda: self._resized(size))

    def _resized(self, size: int) -> None:
        self.actual = size
        if self.size != size:
            self.size = size
            self._told(size)

    def close(self) -> Any:
        """Close, later."""
        if self.closed or self.under_way:
            self.faults.append(f"{self.name} is closed with {self.under_way} under way")
        self.closed = True
        return self.calls.wait("store", lambda: None, now=0.3)


def store_of(unit: LogicalUnit) -> Any:
    """
    Return the store of a unit, below its filters.
    """
    store: Any = unit.store
    while hasattr(store, "inner"):
        store = store.inner
    return store


@attrs.define(eq=False)
class Port:
    """
    A port that is listened on; it is closed when the storm likes.
    """

    reactor: Reactor
    number: int
    factory: Any
    listening: bool = True

    def getHost(self) -> IPv4Address:  # noqa: N802 - Twisted's name
        """Return its address."""
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def stopListening(self) -> Any:  # noqa: N802 - Twisted's name
        """Close it."""
        if not self.listening:
            return succeed(None)
        self.listening = False
        self.reactor.ports.remove(self)
        self.factory.doStop()
        return self.reactor.waits.wait("port", lambda: None, now=0.3)


class Reactor(Clock):
    """
    A clock with ports.
    """

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.waits = calls
        self.ports: list[Port] = []
        self.taken: set[int] = set()

    def listenTCP(  # noqa: N802 - Twisted's name
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> Port:
        """Listen."""
        there = {one.number for one in self.ports} | self.taken
        if port in there:
            error = OSError(errno.EADDRINUSE, "in use")
            raise CannotListenError(interface, port, error)
        factory.doStart()
        made = Port(self, port, factory)
        self.ports.append(made)
        return made


class Wire:
    """
    A transport; what is written stays until the initiator reads it.
    """

    def __init__(self, reactor: Reactor, port: Port, number: int) -> None:
        self.reactor, self.port, self.number = reactor, port, number
        self.protocol: Any = port.factory.buildProtocol(None)
        self.data = bytearray()
        self.producer: Any = None
        self.paused = self.closing = self.closed = False
        self.bufferSize = 65536
        self.protocol.makeConnection(self)

    def getPeer(self) -> IPv4Address:  # noqa: N802 - Twisted's name
        """Return the initiator's address."""
        return IPv4Address("TCP", "127.0.0.2", self.number)

    def getHost(self) -> IPv4Address:  # noqa: N802 - Twisted's name
        """Return ours."""
        return self.port.getHost()

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        """Ask it for a piece."""
        self.producer = producer
        producer.resumeProducing()

    def unregisterProducer(self) -> None:  # noqa: N802 - Twisted's name
        """Ask no more."""
        self.producer = None
        if self.closing:
            self.reactor.callLater(0, self.close)

    def pauseProducing(self) -> None:
        """Deliver nothing."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Deliver again."""
        self.paused = False

    def loseConnection(self) -> None:  # noqa: N802 - Twisted's name
        """Close when all is written."""
        self.closing = True
        if self.producer is None:
            self.reactor.callLater(0, self.close)

    abortConnection = loseConnection  # noqa: N815 - Twisted's name

    def close(self) -> None:
        """Be closed, whoever did it."""
        if not self.closed:
            self.closed = True
            if self.producer is not None:
                self.producer.stopProducing()
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def taken(self) -> bytes:
        """
        Return all that there is to be read.
        """
        while self.producer is not None and not self.closed:
            self.producer.resumeProducing()
        data = bytes(self.data)
        self.data.clear()
        return data


def check_live(system: System, node: Node) -> None:
    """
    See that sessions have the LUNs of their maps, and that everything is counted right.

    :raises AssertionError: it is not so.
    """
    for target in system.drivers.targets.values():
        for nexus in target.nexuses:
            luns = target.luns_for(nexus.initiator).items()
            wanted = {lun: (one.unit, one.read_only) for lun, one in luns}
            found = nexus.itls.items()
            seen = {lun: (one.unit, one.read_only) for lun, one in found}
            assert seen == wanted, f"{nexus.initiator} sees {seen}, not {wanted}"
    for device in system.devices.values():
        for itl in (*device.unit.itls, *device.unit.departing):
            if isinstance(itl.task_set, FaultedTaskSet):
                continue
            tasks = itl.task_set.tasks
            ordered = sum(one.attribute > TaskAttribute.SIMPLE for one in tasks)
            assert itl.task_set.blocking == ordered, (itl.task_set.blocking, ordered)
    for session in node.sessions():
        assert session.ordering.immediate >= 0
        assert session.writes.held_bytes >= 0
        assert not any(task.finished for task in session.tasks.values())


def check_at_rest(configurator: Configurator, identities: dict[str, bytes]) -> None:
    """
    See that a configuration reads back, and that there is nothing to do; that all of
    the tree can be looked at, and that devices are who they were: *identities* of them.

    :raises AssertionError: it is not so.
    """
    system = configurator.tree.system
    configurator.tree.dump("", 16)
    for name, device in system.devices.items():
        identity = device.unit.identity.uuid
        assert identities.setdefault(name, identity) == identity, name
    running = system.configuration()
    text = render(running)
    again = read(text, "")
    assert render(again) == text, (text, render(again))
    for wanted in (running, again):
        steps = list(map(str, configurator.plan(wanted)))
        assert not steps, (steps, text)
