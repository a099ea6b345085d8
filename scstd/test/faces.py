# SPDX-License-Identifier: MIT
"""
Odd and hostile input at every face but the iSCSI stream (`scstd.test.hostile` has that):
boxes at the control socket, SFTP packets, iSNS messages, configuration files of today
and of before.

`assault` runs one seed at one of them, in memory, and sees that nothing is raised or
logged as a failure, that what wants an answer has it, and that a mistake in a file has
its place.  ``python -m scstd.test.faces SECONDS`` tries one seed after the other.
"""

from __future__ import annotations

import random
import re
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.conch.ssh.common import NS
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols.amp import parseString
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.console.sftp import subsystem
from scstd.management.control.amp_server import Boxes
from scstd.management.control.control import ControlProtocol
from scstd.management.converters.legacy import convert_texts
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.protocols.hosts import within
from scstd.protocols.isns.client import ISNSClient
from scstd.protocols.isns.connections import ISNSProtocol, Listener
from scstd.protocols.isns.registration import Registration
from scstd.protocols.wire.isns import FIRST, HEADER, LAST, RESPONSE
from scstd.test.seeds import try_seeds
from scstd.test.test_legacy import CORE, ISCSI
from scstd.test.test_management import EXAMPLE, AtOnce
from scstd.test.test_tree import CONFIGURATION

STEPS = 30

_TEXTS = (
    b"", b"1\n", b"0", b"-1", b"\xff\n", b"\0", b"9" * 5000, b"x" * 4096, b"x" * 70000,
    b"x" * 4095 + b"\n", b":default:\n", b'"' * 50, b"add_device x size=1M\n",
    b"del_device disk1\n", b"add_target iqn.2026-11.x:y\n", b"add disk1 7\n", b"del 0\n",
    "\u00b2 \u2028".encode(), b"value 0x" + b"f" * 5000,
)  # fmt: skip
_PARTS = (b"..", b".", b"", b"devices", b"mgmt", b"\0", b"\xff", b"x" * 300)
_WORDS = (
    "{", "}", '"', "\\", "#", "=", "\n", "\r", "\0", "\u00b2", "\u0663", "-1", "nan", "1e999",
    "%", "..", "/", "*", "!", "\ufeff", "\u2028",
    "9" * 5000, "0x" + "f" * 5000, "x" * 70000, "{ " * 200, "[GROUP x]", "Target",
)  # fmt: skip


class Control(ControlProtocol):
    """
    The control socket's server at no socket, for whom nobody need be asked for.
    """

    def connectionMade(self) -> None:
        """Begin."""
        Boxes.connectionMade(self)


class Transport(StringTransport):
    """
    A transport in memory with a reactor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reactor = Clock()

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        data: bytes = self.value()
        self.clear()
        return data


class Assault:
    """
    One seed; *directory* is for the files of a system.
    """

    def __init__(self, seed: int, directory: Path) -> None:
        self.rng = random.Random(seed)
        self.directory = directory

    def run(self) -> None:
        """Assault one face."""
        failed: list[Any] = []

        def hear(event: Any) -> None:
            if event.get("log_failure") is not None:
                failed.append(event["log_failure"])

        observer: Any = hear
        globalLogPublisher.addObserver(observer)
        try:
            self.rng.choice(self._FACES)(self)
        finally:
            globalLogPublisher.removeObserver(observer)
        assert not failed, failed[0].getTraceback()

    # Systems, and the words they know.

    def system(self) -> Tree:
        """Return the tree of a system that listens nowhere."""
        system = System(Clock(), StateDirectory(self.directory))
        system.devices.lane = AtOnce()
        system.drivers.load()
        tree = Tree(system)
        applied: list[Any] = []
        done = Configurator(tree).apply(read(CONFIGURATION, "scst.conf"))
        done.addBoth(applied.append)
        assert isinstance(applied[0], list), applied
        return tree

    def path(self, tree: Tree) -> bytes:
        """Return a path in the tree, or nearly."""
        rng = self.rng
        here, parts = "", [b""] * rng.randrange(2)
        while rng.random() < 0.8:
            try:
                names = tree.list(here)
            except ConfigurationError:
                break
            # Whoever suspends or blocks a device means it: all waits.
            there = [one for one in names if one not in {"suspend", "block"}]
            if not there:
                break
            name = rng.choice(there)
            here = f"{here}/{name}"
            parts.append(name.encode())
        if rng.random() < 0.2:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(_PARTS))
        return b"/".join(parts) * rng.choice((1,) * 19 + (1000,))

    def damaged(self, data: bytes) -> bytes:
        """Return bytes with something wrong in them, or nothing."""
        rng, harm = self.rng, self.rng.random()
        if data and harm < 0.1:
            return data[: rng.randrange(len(data))]
        if harm < 0.15:
            return data + rng.randbytes(rng.randrange(1, 9))
        if data and harm < 0.25:
            changed = bytearray(data)
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        return data

    # The control socket.

    def control(self) -> None:
        """Boxes: what wants an answer has it, or the connection ends."""
        tree = self.system()
        transport: Any = Transport()
        protocol: Any = Control(tree, Configurator(tree), {})
        protocol.makeConnection(transport)
        for _step in range(STEPS):
            harmed = self.damaged(self.box(tree))
            protocol.dataReceived(harmed[: len(harmed) // 2])
            protocol.dataReceived(harmed[len(harmed) // 2 :])
            transport.reactor.advance(1)
            parseString(transport.taken())
            if transport.disconnecting:
                break
        protocol.connectionLost(Failure(ConnectionDone()))
        assert not protocol._clients
        assert not tree.system.events.subscriptions

    def box(self, tree: Tree) -> bytes:
        """Return a command."""
        rng = self.rng
        names = ("Read", "List", "Dump", "Write", "Manage", "More", "Subscribe")
        command = rng.choice(
            (*names, "Events", "Check", "StartTLS", "_answer", "\u00e9")
        )
        values = {
            b"path": self.path(tree),
            b"text": rng.choice(_TEXTS),
            b"depth": rng.choice(_TEXTS[:7]),
            b"more": rng.choice(_TEXTS[:7]),
            b"verb": rng.choice(_TEXTS).partition(b" ")[0],
            b"words": rng.choice((b"", b"\0\1x", b"\0\5x")),
            b"names": rng.choice((b"", b"\0\1*", b"\0\1", b"\0\5REG_?")),
            b"pairs": rng.choice(
                (b"", b"\0\4name\0\4size\0\5value\0\0021M\0\0", b"\0\4na")
            ),
            b"_command": command.encode(),
            b"_ask": b"1",
        }
        given = {name for name in values if rng.random() < 0.95}
        if values[b"path"].startswith(b"/dev") or command == "Check":
            values[b"path"] = b"/nowhere/" + values[b"path"]
        pairs = [(name, values[name][:65535]) for name in given]
        return (
            b"".join(
                struct.pack(">H", len(one)) + one
                for pair in sorted(pairs)
                for one in pair
            )
            + b"\0\0"
        )

    # SFTP.

    def sftp(self) -> None:
        """Packets: each request has one answer, or the channel ends."""
        rng, tree = self.rng, self.system()
        server, transport = subsystem(tree)(b"", None), StringTransport()
        server.makeConnection(transport)
        server.dataReceived(struct.pack(">LBL", 5, 1, 3))
        handles = [NS(b"none")]
        transport.clear()
        for number in range(STEPS):
            kind, body = self.request(tree, rng.choice(handles))
            body = struct.pack(">L", number) + self.damaged(body)
            server.dataReceived(struct.pack(">LB", len(body) + 1, kind) + body)
            if transport.disconnecting:
                # It was longer than packets are.
                break
            said: bytes = transport.value()
            transport.clear()
            assert len(said) == int.from_bytes(said[:4], "big") + 4, (kind, body[:99])
            assert said[5:9] == body[:4]
            if said[4] == 102:
                handles.append(said[9:])
        server.connectionLost(Failure(ConnectionDone()))
        assert not server.openFiles
        assert not server.openDirs

    def request(self, tree: Tree, handle: bytes) -> tuple[int, bytes]:
        """Return the type of a request, and what it says."""
        rng, path = self.rng, NS(self.path(tree))
        given = struct.pack(">L", rng.choice((0, 0, 0, 1, 2, 4, 8, 15, 0x80000000)))
        given += rng.randbytes(rng.choice((0, 0, 8, 32)))
        where = struct.pack(">Q", rng.choice((0, 0, 1, 4096, 1 << 63)))
        flags = struct.pack(">L", rng.choice((1, 2, 3, 0x1A, 0x3F)))
        return rng.choice(
            (
                (3, path + flags + bytes(4)),
                (3, path + flags + given),
                (4, handle),
                (5, handle + where + struct.pack(">L", rng.choice((1, 1 << 31)))),
                (6, handle + where + NS(rng.choice(_TEXTS))),
                (9, path + given),
                (10, handle + given),
                (11, path),
                (14, path + given),
                (20, path + path),
                (200, path),
                (rng.choice((7, 8, 12, 13, 15, 16, 17, 18, 19, 77, 101)), path),
                (rng.choice((8, 12)), handle),
            )
        )

    # iSNS.

    def isns(self) -> None:
        """Messages from a server: it is answered, or the connection ends."""
        rng, clock = self.rng, Clock()
        told = Registration("e", [("127.0.0.1", 1)], [("iqn.x:y", "")])
        client = ISNSClient(clock, "", 0, lambda _host: told)
        client.registered = True
        protocol: Any = rng.choice((ISNSProtocol, Listener))(client)
        client.connected = lambda _protocol: None  # type: ignore[method-assign, assignment]
        transport = StringTransport()
        protocol.makeConnection(transport)
        for _step in range(STEPS):
            value = rng.choice((b"", b"iqn.x\0\0\0", b"\xff" * 4, bytes(60000)))
            body = struct.pack(">LLL", rng.choice((0, 9)), 32, len(value)) + value
            function = rng.choice((1, 2, 8, 13, 8 | RESPONSE, 2 | RESPONSE))
            flags = rng.choice((FIRST | LAST, FIRST | LAST, FIRST, LAST, 0))
            head = HEADER.pack(1, function, len(body), flags, rng.randrange(3), 0)
            protocol.dataReceived(self.damaged(head + body))
            clock.advance(1)
            if transport.disconnecting:
                break
        protocol.connectionLost(Failure(ConnectionDone()))

    # Files.

    def words(self, text: str) -> str:
        """Return a text with something wrong in it."""
        rng = self.rng
        for _harm in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(text) + 1)
            what = rng.randrange(4)
            if what == 0:
                text = text[:at]
            elif what == 1:
                text = text[:at] + text[at + rng.randrange(1, 30) :]
            else:
                own = [*_WORDS, *text.split()]
                text = text[:at] + rng.choice(own) + text[at:]
        return text

    def configuration(self) -> None:
        """scst.conf: it is read, and what is written is the same; or it has a place."""
        text = self.words(self.rng.choice((EXAMPLE, CONFIGURATION)))
        try:
            written = render(read(text, "file"))
        except ConfigurationError as error:
            self.placed(error)
        else:
            assert render(read(written, "file")) == written

    def legacy(self) -> None:
        """The files of before: they are converted, or the mistake has a place."""
        text = CORE if self.rng.random() < 0.5 else ISCSI
        try:
            convert_texts([("file", self.words(text))])
        except ConfigurationError as error:
            self.placed(error)

    @staticmethod
    def placed(error: ConfigurationError) -> None:
        """See that every mistake names its file and line."""
        for line in str(error).split("\n"):
            assert re.match(r"file:\d+:(\d+:)? ", line), line[:200]

    def hosts(self) -> None:
        """Addresses: any word is within another one, or is not."""
        rng = self.rng
        known = (
            "192.0.2.1",
            "192.0.2.0/24",
            "[2001:db8::]/32",
            "::1%lo",
            "ALL",
            "::/999",
        )
        for _step in range(STEPS):
            within(self.words(rng.choice(known)), self.words(rng.choice(known)))

    _FACES: tuple[Callable[[Assault], None], ...] = (
        *(control,) * 2,
        *(sftp,) * 2,
        isns,
        *(configuration,) * 2,
        legacy,
        hosts,
    )


def main(seconds: float, first: int = 0) -> None:
    """Try seeds for so many seconds."""
    with tempfile.TemporaryDirectory() as directory:
        try_seeds(lambda seed: Assault(seed, Path(directory)).run(), seconds, first)


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:]))
