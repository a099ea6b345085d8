# SPDX-License-Identifier: MIT
"""
Tests for `scstd.initiator.twisted` with `scstd.testing.target`: over sockets, and with a
clock over a transport in memory.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults, succeed
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.initiator.commands import read10, write10
from scstd.initiator.login import LoginOptions, LoginRefused
from scstd.initiator.tasks import CommandFailure
from scstd.initiator.twisted import (
    QUIET,
    RETRY,
    TIMEOUT,
    RequestTimeout,
    SessionClient,
    SessionLost,
)
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import TaskManagementCode
from scstd.protocols.wire.keys import LOCAL
from scstd.test.initiator import TARGET, serve
from scstd.test.pairing import PairedConnection
from scstd.test.stores import ManualStore, memory
from scstd.testing.target import RunningTarget
from scstd.testing.target import serve as served

READY = bytes(6)


class SocketTests(TestCase):
    """
    Against a target on a port of the loopback.
    """

    timeout = 60

    async def connected(self, target: RunningTarget, *keys: Any) -> SessionClient:
        """Return a client that has logged in, and has had its unit attention."""
        client = SessionClient.for_url(reactor, target.url, *keys)
        await client.connect()
        self.addCleanup(client.logout)
        self.assertEqual((await client.execute(READY)).key, 6)
        return client

    async def test_commands(self) -> None:
        """What was written is read, many at a time, over digests and long bursts."""
        target = await served(self, memory(4 << 20))
        client = await self.connected(
            target, ("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")
        )
        data = bytes(range(256)) * 4096
        done = await client.execute(write10(8, 2048), data=data)
        self.assertEqual(done.status, 0)
        reads = [
            client.execute(read10(8 + 8 * number, 8), read=4096)
            for number in range(200)
        ]
        for number, found in enumerate(await gatherResults(reads)):
            self.assertEqual(found.data, data[4096 * number : 4096 * (number + 1)])

    async def test_words(self) -> None:
        """What the command line can name is served, too, beside a store."""
        target = await served(
            self, memory(), options=("--device", "d=memory:size=2M:read_only=1")
        )
        client = await self.connected(target)
        self.assertEqual(len(target.urls), 2)
        done = await client.execute(write10(0, 1), data=bytes(512))
        self.assertEqual((done.key, done.asc), (7, 0x2700))

    async def test_context(self) -> None:
        """It is there inside, and gone after; its store is closed."""
        store, closed = memory(), []
        self.patch(store, "close", lambda: closed.append(True))
        async with RunningTarget(store) as target:
            url = target.url
            self.assertFalse(closed)
        self.assertTrue(closed)
        client = SessionClient.for_url(reactor, url)
        await self.assertFailure(client.connect(), ConnectError)

    async def test_cannot_start(self) -> None:
        """Who asks for what cannot be is told so."""
        target = RunningTarget(options=("missing.img",))
        with self.assertRaises(ConfigurationError):
            async with target:
                pass

    async def test_others(self) -> None:
        """Pings, task management, discovery."""
        target = await served(self, memory())
        client = await self.connected(target)
        self.assertEqual(await client.ping(b"hello"), b"hello")
        function = TaskManagementCode.LOGICAL_UNIT_RESET
        self.assertEqual(await client.manage(function), 0)
        portal = target.url.split("/")[2]
        self.assertEqual(await client.send_targets(), {target.name: [f"{portal},1"]})

    async def test_discovery_session(self) -> None:
        """A session for discovery finds the target, and logs out."""
        async with RunningTarget(memory()) as target:
            client = SessionClient.for_url(reactor, target.url)
            client.session.options = LoginOptions(None)
            await client.connect()
            self.assertEqual(len(await client.send_targets()), 1)
            await client.logout()

    async def test_several_connections(self) -> None:
        """Commands go over all connections of a session; one may be lost at level 2."""
        target = await served(self, memory())
        for row, value in (
            ("MaxConnections", "4"),
            ("ErrorRecoveryLevel", "2"),
            ("DefaultTime2Retain", "20"),
        ):
            await target.write(row, value)
        client = await self.connected(
            target,
            ("MaxConnections", "4"),
            ("ErrorRecoveryLevel", "2"),
            ("DefaultTime2Wait", "0"),
            ("DefaultTime2Retain", "20"),
        )
        await client.connect()
        self.assertEqual(len(client.session.connections), 2)
        lost = next(iter(client.protocols.values()))
        writes = [
            client.execute(write10(number, 1), data=bytes((number,)) * 512)
            for number in range(30)
        ]
        lost.transport.abortConnection()  # type: ignore[union-attr]
        for done in await gatherResults(writes):
            self.assertIn(done.status, (0, 2))
        for number in range(30):
            found = await client.execute(read10(number, 1), read=512)
            self.assertIn(found.status, (0, 2))

    async def test_refused(self) -> None:
        """A login that is refused says with which status."""
        target = await served(self, memory())
        client = SessionClient.for_url(reactor, target.url.replace("/0", "nobody/0"))
        error: Any = await self.assertFailure(client.connect(), LoginRefused)
        self.assertEqual(error.status, 0x0203)


class MemoryEndpoint:
    """
    An endpoint whose other end is a connection of a node in memory.
    """

    def __init__(self, node: Any) -> None:
        self.node = node
        self.refuses = False
        self.protocols: list[Any] = []
        self.sides: list[PairedConnection] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect, at once."""
        if self.refuses:
            return fail(ConnectError())
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        # It says of itself only that it is disconnecting.
        transport.abortConnection = lambda: self.cut(protocol)  # type: ignore[method-assign]
        self.protocols.append(protocol)
        self.sides.append(PairedConnection(self.node))
        protocol.makeConnection(transport)
        return succeed(protocol)

    def cut(self, protocol: Any) -> None:
        """Have a connection be lost."""
        at = self.protocols.index(protocol)
        side = self.sides[at]
        del self.protocols[at], self.sides[at]
        side.connection.disconnected()
        protocol.connectionLost(Failure(ConnectionDone()))

    def pump(self) -> None:
        """Deliver what there is, both ways, until there is nothing."""
        moved = True
        while moved:
            moved = False
            for protocol, side in list(zip(self.protocols, self.sides, strict=True)):
                data = protocol.transport.value()
                if data:
                    protocol.transport.clear()
                    side.feed(data)
                answer = side.take()
                if answer:
                    protocol.dataReceived(answer)
                moved = moved or bool(data or answer)
                if protocol.transport.disconnecting and protocol in self.protocols:
                    self.cut(protocol)


class ClockTests(SynchronousTestCase):
    """
    What takes too long.
    """

    def setUp(self) -> None:
        """Have a target whose store waits, and log in."""
        self.store = ManualStore()
        local = {
            **LOCAL,
            "ErrorRecoveryLevel": 2,
            "MaxConnections": 2,
            "DefaultTime2Retain": 20,
        }
        self.node, _target, _units = serve(
            self.store, limits=TargetSettings(local=local)
        )
        self.clock = Clock()
        self.endpoint: Any = MemoryEndpoint(self.node)

    def connect(self, *keys: tuple[str, str]) -> SessionClient:
        """Log in."""
        options = LoginOptions(TARGET, keys)
        client = SessionClient(self.clock, self.endpoint, options)
        done = client.connect()
        self.endpoint.pump()
        self.assertIs(self.successResultOf(done), client)
        ready = client.execute(READY)
        self.endpoint.pump()
        self.assertEqual(self.successResultOf(ready).key, 6)
        return client

    def test_aborted(self) -> None:
        """A command that takes too long is aborted, and others go on."""
        client = self.connect()
        slow = client.execute(read10(0, 1), read=512, timeout=3)
        self.endpoint.pump()
        self.clock.advance(2)
        self.assertNoResult(slow)
        self.clock.advance(1)
        self.failureResultOf(slow, RequestTimeout)
        self.endpoint.pump()
        self.store.go()
        self.endpoint.pump()
        self.assertFalse(client.session.tasks)
        other = client.execute(READY)
        self.endpoint.pump()
        self.assertEqual(self.successResultOf(other).status, 0)

    def test_cancelled(self) -> None:
        """So is one that is cancelled."""
        client = self.connect()
        slow = client.execute(read10(0, 1), read=512)
        self.endpoint.pump()
        (session,) = self.node.sessions()
        slow.cancel()
        self.endpoint.pump()
        self.store.go()
        self.endpoint.pump()
        self.failureResultOf(slow)
        self.assertFalse(session.tasks)
        self.assertFalse(client.session.tasks)

    def test_not_even_aborted(self) -> None:
        """Where the abort is not answered either the connection is given up."""
        client = self.connect()
        slow = client.execute(read10(0, 1), read=512, timeout=3)
        self.endpoint.pump()
        self.clock.advance(3)
        self.failureResultOf(slow, RequestTimeout)
        self.clock.advance(3)
        self.assertTrue(client.session.over)
        self.failureResultOf(client.ping(), SessionLost)
        self.failureResultOf(client.execute(READY), CommandFailure)
        self.assertFalse(self.clock.getDelayedCalls())

    def test_ping(self) -> None:
        """A ping that is not answered fails."""
        client = self.connect()
        asked = client.ping()
        self.clock.advance(TIMEOUT)
        self.failureResultOf(asked, RequestTimeout)

    def test_login(self) -> None:
        """A login that is not answered fails, and its connection is closed."""
        client = SessionClient(self.clock, self.endpoint, LoginOptions(TARGET))
        done = client.connect()
        self.clock.advance(TIMEOUT)
        self.failureResultOf(done, RequestTimeout)
        self.assertFalse(self.endpoint.protocols)

    def test_logout(self) -> None:
        """After a logout all is closed, and nothing waits."""
        client = self.connect()
        done = client.logout()
        self.endpoint.pump()
        self.successResultOf(done)
        self.assertFalse(self.endpoint.protocols)
        self.assertFalse(self.clock.getDelayedCalls())
        self.assertFalse(self.node.sessions())
        self.successResultOf(client.logout())

    def test_lost(self) -> None:
        """At level 0 commands fail with their connection."""
        client = self.connect()
        slow = client.execute(read10(0, 1), read=512)
        self.endpoint.pump()
        self.endpoint.cut(self.endpoint.protocols[0])
        self.failureResultOf(slow, CommandFailure)
        self.assertFalse(self.clock.getDelayedCalls())

    def recoverable(self) -> SessionClient:
        """Log in at error recovery level 2."""
        return self.connect(
            ("ErrorRecoveryLevel", "2"),
            ("DefaultTime2Wait", "1"),
            ("DefaultTime2Retain", "20"),
        )

    def test_recovered(self) -> None:
        """At level 2 a lost connection is opened again, and its commands end there."""
        client = self.recoverable()
        slow = client.execute(read10(0, 1), read=512)
        self.endpoint.pump()
        self.endpoint.cut(self.endpoint.protocols[0])
        self.endpoint.refuses = True
        self.clock.advance(1)
        self.endpoint.refuses = False
        self.clock.advance(RETRY)
        self.endpoint.pump()
        self.assertNoResult(slow)
        self.store.go()
        self.endpoint.pump()
        self.assertEqual(self.successResultOf(slow).data, bytes(512))
        self.assertEqual(client.session.recovery.counts["reassign"], 1)  # type: ignore[union-attr]

    def test_not_recovered(self) -> None:
        """A target that does not come back in time is given up."""
        client = self.recoverable()
        slow = client.execute(read10(0, 1), read=512)
        self.endpoint.pump()
        self.endpoint.refuses = True
        self.endpoint.cut(self.endpoint.protocols[0])
        self.clock.pump([1.0] * 22)
        self.failureResultOf(slow, CommandFailure)
        self.assertTrue(client.session.over)

    def test_missing(self) -> None:
        """What has not come for a while is asked for, and comes."""
        client = self.recoverable()
        slow = client.execute(read10(0, 1), read=512)
        self.endpoint.pump()
        self.store.go()
        # The answer is lost.
        self.assertTrue(self.endpoint.sides[0].take())
        self.clock.advance(QUIET)
        self.endpoint.pump()
        self.assertEqual(self.successResultOf(slow).status, 0)
        self.assertGreater(client.session.recovery.counts["snack"], 0)  # type: ignore[union-attr]
