# SPDX-License-Identifier: MIT
"""
Tests for the console's SSH server, `scstd.management.console.console`: its file of keys, who
does not log in, how many there are.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.portal import Portal
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from scstd.management.console import console
from scstd.management.console.console import ConsoleFactory, KeyFile

KEY = (
    b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
    b" somebody\n"
)
SECRET = b"password is 12charsecret"


class KeyFileTests(SynchronousTestCase):
    """
    The file of those who may use it.
    """

    def setUp(self) -> None:
        """Hear of the log."""
        self.path = Path(self.mktemp())
        self.lines: list[str] = []

        def hear(event: Any) -> None:
            self.lines.append(f"{event['log_format']} {event}")

        observer: Any = hear
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def keys(self) -> int:
        """Return how many keys are in it."""
        return len(list(KeyFile(str(self.path)).getAuthorizedKeys(b"root")))

    def test_lines(self) -> None:
        """A line that is no key is named by its number, and not shown."""
        self.path.write_bytes(
            b"# comment\n\n"
            + KEY
            + SECRET
            + b"\nssh-ed25519 \xff\nssh-rsa AAAA\n"
            + KEY
        )
        self.assertEqual(self.keys(), 2)
        said = "\n".join(self.lines)
        self.assertEqual(len(self.lines), 3)
        for number in (4, 5, 6):
            self.assertIn(f"'number': {number}", said)
        self.assertNotIn("12charsecret", said)

    def test_no_file(self) -> None:
        """A file that is gone, or is none any more, lets nobody in."""
        self.assertEqual(self.keys(), 0)
        os.mkfifo(self.path)
        self.assertEqual(self.keys(), 0)
        self.assertEqual(len(self.lines), 2)


class Watch:
    """
    What a factory needs to know of the system.
    """

    def __init__(self) -> None:
        self.reactor = Clock()
        self.system = self


class TransportTests(SynchronousTestCase):
    """
    Connections on which nobody logs in.
    """

    def setUp(self) -> None:
        """Have a server."""
        self.watch = Watch()
        realm: Any = None
        watch: Any = self.watch
        self.factory: Any = ConsoleFactory(Portal(realm), watch)
        self.factory.publicKeys = self.factory.privateKeys = {}
        self.factory.primes = None

    def connect(self) -> Any:
        """Return a connection."""
        made = self.factory.buildProtocol(None)
        if made is not None:
            made.makeConnection(StringTransport())
        return made

    def test_too_late(self) -> None:
        """Who has not logged in is hung up on; who has stays."""
        silent, trying, inside = (self.connect() for _each in range(3))
        trying.setService(SSHUserAuthServer())
        inside.setService(SSHConnection())
        trying.service.serviceStopped()
        self.watch.reactor.advance(console.LOGIN_TIME)
        self.assertTrue(silent.transport.disconnecting)
        self.assertTrue(trying.transport.disconnecting)
        self.assertFalse(inside.transport.disconnecting)

    def test_many(self) -> None:
        """There are so many that are logged in and no more; when one goes another may come."""
        there = [self.connect() for _each in range(console.MAX_CONNECTIONS)]
        for one in there:
            one.setService(SSHConnection())
        self.assertIsNone(self.connect())
        there[0].connectionLost()
        self.assertIsNotNone(self.connect())
        for one in list(self.factory.connections):
            one.connectionLost()
        self.assertEqual(self.watch.reactor.getDelayedCalls(), [])

    def test_silent_ones_give_way(self) -> None:
        """Who does not log in gives way to who comes, the oldest first."""
        inside = self.connect()
        inside.setService(SSHConnection())
        others = [self.connect() for _each in range(console.MAX_CONNECTIONS + 4)]
        gone = [one.transport.disconnected for one in others]
        self.assertEqual(gone, [True] * 5 + [False] * (len(others) - 5))
        self.assertFalse(inside.transport.disconnected)
        self.assertEqual(len(self.factory.connections), console.MAX_CONNECTIONS)

    def test_unread(self) -> None:
        """Who does not read is not read from."""
        one = self.connect()
        transport = one.transport
        self.assertTrue(transport.streaming)
        transport.producer.pauseProducing()
        self.assertEqual(transport.producerState, "paused")
        transport.producer.resumeProducing()
        self.assertEqual(transport.producerState, "producing")

    def test_end_that_is_not_read(self) -> None:
        """Who does not take what it is told at the end is hung up on all the same."""
        one = self.connect()
        one.sendDisconnect(11, b"a reason")
        transport = one.transport
        self.assertTrue(transport.disconnecting)
        transport.producer.resumeProducing()
        self.assertIsNone(transport.producer)
        self.watch.reactor.advance(console.GRACE - 0.1)
        self.assertFalse(transport.disconnected)
        self.watch.reactor.advance(0.2)
        self.assertTrue(transport.disconnected)
        one.connectionLost()
        self.assertEqual(self.watch.reactor.getDelayedCalls(), [])
