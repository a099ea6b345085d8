# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.control.amp_server`: clients of the control socket that send nonsense,
ask for everything at once, or do not read what they are told.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.protocols.amp import AmpBox
from twisted.python.failure import Failure

from scstd.management.control import amp_server, commands, control
from scstd.management.control.client import connect
from scstd.management.control.commands import FailedError
from scstd.test.test_control import Connected


def box(command: str, **arguments: bytes) -> bytes:
    """Return the bytes of a command."""
    values = {b"_command": command.encode(), b"_ask": b"1"}
    values.update({name.encode(): value for name, value in arguments.items()})
    return bytes(AmpBox(values).serialize())


class Raw(Protocol):
    """
    A client that sends bytes; *gone* fires when it is hung up on.
    """

    def __init__(self) -> None:
        self.received = b""
        self.gone: Deferred[None] = Deferred()
        self.came: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        came, self.came = self.came, Deferred()
        came.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say so."""
        self.gone.callback(None)


NONSENSE = {
    "no command": AmpBox({b"foo": b"bar"}).serialize(),
    "an empty box": b"\0\0",
    "an answer that nobody has asked for": AmpBox({b"_answer": b"1"}).serialize(),
    "an error that nobody has asked for": AmpBox(
        {b"_error": b"1", b"_error_code": b"x", b"_error_description": b"y"}
    ).serialize(),
    "a command that is an answer too": AmpBox(
        {b"_command": b"Read", b"_answer": b"1"}
    ).serialize(),
    "a key that is too long": struct.pack(">H", 256) + bytes(256),
    "HTTP": b"GET / HTTP/1.0\r\n\r\n",
    "a box without an end": AmpBox(
        {f"key{number}".encode(): b"x" for number in range(100)}
    ).serialize()[:-2],
}

WRONG = {
    "without its argument": (box("Read"), b"'path' of Read: expected a string"),
    "not a number": (box("More", more=b"abc"), b"'more' of More: expected a whole"),
    "too long a number": (box("More", more=b"9" * 5000), b"expected a whole number"),
    "not UTF-8": (box("Read", path=b"\xff"), b"expected a string in UTF-8"),
    "not a boolean": (
        box("Apply", path=b"", keep=b"perhaps", dry=b"True"),
        b"'keep' of Apply: expected True or False",
    ),
    "a list that is cut off": (
        box("Subscribe", names=b"\0\4REG"),
        b"'names' of Subscribe: expected a list of strings",
    ),
    "a pair without a value": (
        box("Manage", path=b"", verb=b"x", words=b"", pairs=b"\0\4name\0\1x\0\0"),
        b"'pairs' of Manage: expected a list of boxes",
    ),
    "a pair that is cut off": (
        box("Manage", path=b"", verb=b"x", words=b"", pairs=b"\0\4na"),
        b"'pairs' of Manage: expected a list of boxes",
    ),
    "a NUL in a path": (box("Check", path=b"/\0x"), b"no path has a NUL in it"),
    "an unknown command": (box("Nope"), b"unknown command b'Nope'"),
    "a command that is no word": (box("\u00e9" * 9000), b"unknown command b'"),
    "AMP's own command": (box("StartTLS"), b"unknown command b'StartTLS'"),
    "many names": (
        box("Subscribe", names=b"\0\1*" * 101),
        b"expected at most 100 names",
    ),
    "a long name": (
        box("Subscribe", names=b"\1\0" + b"*_" * 128),
        b"names of events of at most 100 characters",
    ),
}


class BoxesTests(Connected):
    """
    Clients that cannot be relied on.
    """

    async def raw(self) -> Raw:
        """Return another client, that sends bytes."""
        made: Deferred[Raw] = Deferred()

        class Client(Raw):
            def connectionMade(self) -> None:
                made.callback(self)

        factory: Any = Factory.forProtocol(Client)
        factory.noisy = False
        factory.doStart = factory.doStop = lambda: None
        factory.startedConnecting = lambda _connector: None
        factory.clientConnectionLost = lambda _connector, _reason: None
        reactor.connectUNIX(str(self.path), factory)  # type: ignore[attr-defined]
        found = await made

        def leave() -> Deferred[None]:
            transport: Any = found.transport
            transport.abortConnection()
            return found.gone

        self.addCleanup(leave)
        return found

    async def test_nonsense(self) -> None:
        """What is no command is hung up on in one line; others are served on."""
        client, tree = await self.connected()
        lines: list[Any] = []
        observer: Any = lines.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for what, data in NONSENSE.items():
            lines.clear()
            one = await self.raw()
            assert one.transport is not None
            one.transport.write(data)
            await one.gone
            said = [line for line in lines if "hung up" in str(line.get("log_format"))]
            self.assertEqual(len(said), 1, what)
            self.assertEqual(one.received, b"", what)
        self.assertEqual(await client.read("version"), tree.read("version"))

    async def test_wrong(self) -> None:
        """A wrong command or argument is refused by name, and the next is carried out."""
        await self.connected()
        one = await self.raw()
        assert one.transport is not None
        for what, (data, why) in WRONG.items():
            one.received = b""
            one.transport.write(data + box("Read", path=b"version"))
            while b"_answer" not in one.received:
                await one.came
            self.assertIn(why, one.received, what)

    async def test_not_asked(self) -> None:
        """A command that wants no answer and fails leaves one line in the log."""
        await self.connected()
        one = await self.raw()
        assert one.transport is not None
        data = AmpBox({b"_command": b"Read", b"path": b"nowhere"}).serialize()
        one.transport.write(data + box("Read", path=b"version"))
        await one.came
        self.assertIn(b"_answer", one.received)

    async def test_not_read(self) -> None:
        """Who does not read what it asked for is not read from, and held up alone."""
        client, _tree = await self.connected()
        one = socket.socket(socket.AF_UNIX)
        self.addCleanup(one.close)
        one.setblocking(False)
        one.connect(str(self.path))
        # Long commands: few of them fill the sockets.
        one_command = box("Dump", path=b"", depth=b"9", filler=bytes(8000))
        data = one_command * 10
        sent = quiet = 0
        while quiet < 50:
            try:
                sent += one.send(data[sent % len(one_command) :])
                quiet = 0
            except BlockingIOError:
                quiet += 1
                await client.read("version")
            # What one client may leave in the sockets, and one chunk at the server.
            self.assertLess(sent, 2 << 20)
        # Read, all of it is answered.
        answers = 0
        count = sent // len(one_command)
        while answers < count:
            try:
                answers += one.recv(1 << 20).count(b"_answer")
            except BlockingIOError:
                await deferLater(reactor, 0)

    async def test_many_at_once(self) -> None:
        """Of many commands a client has some under way; each is answered in the end."""
        client, tree = await self.connected()
        await tree._turns.acquire()
        writes = [client.write("trace_level", "default") for _number in range(300)]
        answers = gatherResults([Deferred.fromCoroutine(one) for one in writes])
        other = await connect(reactor, self.path)
        self.addCleanup(self.hang_up, other)
        for _turn in range(50):
            await other.read("version")
        self.assertEqual(len(tree._turns._waiting), amp_server.MAX_AT_ONCE)
        tree._turns.release()
        self.assertEqual(len(await answers), 300)

    async def test_many_clients(self) -> None:
        """
        So many clients that ask for something are let in and no more; when one goes
        another may come.  One that asks for nothing gives way.
        """
        client, tree = await self.connected()
        await client.read("version")
        self.patch(control, "MAX_CLIENTS", 2)
        silent = await self.raw()
        second = await connect(reactor, self.path)
        await second.read("version")
        await silent.gone
        third = await self.raw()
        await third.gone
        await self.hang_up(second)
        while True:
            another = await connect(reactor, self.path)
            self.addCleanup(self.hang_up, another)
            try:
                self.assertEqual(await another.read("version"), tree.read("version"))
                break
            except FailedError:
                raise
            except Exception:  # noqa: BLE001 - it takes a turn to be noticed
                continue
        await client.amp.callRemote(commands.Read, path="version")
