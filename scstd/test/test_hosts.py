# SPDX-License-Identifier: MIT
"""
initiators.allow and initiators.deny (`scstd.protocols.hosts`): what keeps people out
does not let them in by a mistake, and no login waits for a file for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.protocols.hosts import PATIENCE, Hosts
from scstd.protocols.wire.pdu import LoginResponse
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory

NAMES = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
HERE = "192.0.2.1"


class Files(SynchronousTestCase):
    """
    Two files, and what the log says of them.
    """

    def setUp(self) -> None:
        """Name them."""
        self.allow, self.deny = Path(self.mktemp()), Path(self.mktemp())
        self.clock = Clock()
        self.hosts = Hosts.of(self.clock, str(self.allow), str(self.deny))
        said: list[str] = []
        self.said = said

        def hear(event: Any) -> None:
            said.append(event["log_format"].format(**event))

        observer: Any = hear
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def refused(self, address: str = HERE, target: str = TARGET) -> bool:
        """Look at the files, and say whether an address is refused."""
        looked: list[bool] = []
        self.hosts.look(lambda: looked.append(True))
        self.assertEqual(looked, [True])
        return self.hosts.refused(target, address)


class MistakeTests(Files):
    """
    Files with mistakes.
    """

    def test_not_there(self) -> None:
        """Without files everybody may come."""
        self.assertFalse(self.refused())
        self.assertEqual(self.said, [])

    def test_never_looked(self) -> None:
        """Before anybody has looked nobody may."""
        self.assertTrue(self.hosts.refused(TARGET, HERE))

    def test_not_understood(self) -> None:
        """A file that was never right denies everybody; the line is named, once."""
        for line in (
            "ALL 127.0.0.*",
            "ALL localhost",
            "ALL: ALL",
            "ALL",
            "disk 192.0.2.9",
            "ALL 192.0.2.0/33",
            f"{TARGET}{'x' * 300} ALL",
            "ALL \udce9",
        ):
            self.setUp()
            self.deny.write_bytes(os.fsencode(f"# comment\n\n{line}\n"))
            self.assertTrue(self.refused(), line)
            self.assertTrue(self.refused())
            (said,) = self.said
            self.assertIn(f"{self.deny}: line 3: expected", said)
            self.assertIn("everybody is denied", said)
            self.assertTrue(said.isascii())

    def test_comment(self) -> None:
        """A comment may have any bytes."""
        self.deny.write_bytes(b"# ferm\xe9\nALL 192.0.2.9 # \xff\n")
        self.assertFalse(self.refused())
        self.assertTrue(self.refused("192.0.2.9"))

    def test_not_a_file(self) -> None:
        """A directory, a pipe, or a file that is too long, denies everybody."""
        self.deny.mkdir()
        self.assertTrue(self.refused())
        self.deny.rmdir()
        os.mkfifo(self.deny)
        self.assertTrue(self.refused())
        self.deny.unlink()
        self.deny.write_bytes(b"#" * (2 << 20))
        self.assertTrue(self.refused())
        self.assertEqual(len(self.said), 3)
        self.deny.unlink()
        self.assertFalse(self.refused())

    def test_last_good_one(self) -> None:
        """A file that was right counts as it was while it is wrong."""
        self.deny.write_text("ALL 192.0.2.0/24\n")
        self.assertTrue(self.refused())
        self.deny.write_text("ALL 192.0.2.0/24 198.51.100.*\n")
        self.assertTrue(self.refused())
        self.assertFalse(self.refused("203.0.113.1"))
        self.assertIn("what it said before counts", self.said[0])
        self.deny.write_text("ALL 198.51.100.0/24\n")
        self.assertFalse(self.refused())
        self.assertEqual(len(self.said), 1)

    def test_allow(self) -> None:
        """A file of those who are allowed in spite of it allows nobody by a mistake."""
        self.deny.write_text("ALL ALL\n")
        self.allow.write_text("ALL 192.0.2.*\n")
        self.assertTrue(self.refused())
        self.assertIn("nobody is allowed", self.said[0])
        self.allow.write_text("ALL 192.0.2.0/24\n")
        self.assertFalse(self.refused())
        self.allow.write_text("ALL 192.0.2.*\n")
        self.assertFalse(self.refused())
        self.assertTrue(self.refused("203.0.113.1"))

    def test_spellings(self) -> None:
        """Names in capitals are those names, and networks have masks of both kinds."""
        self.deny.write_text(
            f"{TARGET.upper()} 192.0.2.0/255.255.255.0, [2001:db8::]/32\nall ALL\n"
        )
        self.assertTrue(self.refused())
        self.assertTrue(self.refused("2001:db8::1%eth0"))
        self.assertFalse(self.refused("203.0.113.1"))
        self.assertTrue(self.refused("203.0.113.1", "iqn.2026-11.org.other:x"))

    def test_same_length(self) -> None:
        """A file that another has taken the place of is read again."""
        self.deny.write_text("ALL 192.0.2.1\n")
        self.assertTrue(self.refused())
        other = Path(self.mktemp())
        other.write_text("ALL 192.0.2.2\n")
        found = self.deny.stat()
        os.utime(other, ns=(found.st_mtime_ns, found.st_mtime_ns))
        other.replace(self.deny)
        self.assertFalse(self.refused())


class WaitingTests(Files):
    """
    Looks that take their time.
    """

    def setUp(self) -> None:
        """Have looks wait."""
        super().setUp()
        self.calls: list[tuple[Deferred[Any], Callable[[], Any]]] = []

        def call(function: Callable[[], Any]) -> Deferred[Any]:
            made: Deferred[Any] = Deferred()
            self.calls.append((made, function))
            return made

        self.hosts.call = call
        self.node, _target, _units = serve(memory())
        self.node.refused_host, self.node.look = self.hosts.refused, self.hosts.look

    def go(self) -> None:
        """Let the oldest look happen."""
        made, function = self.calls.pop(0)
        made.callback(function())

    def login(self) -> Initiator:
        """Send a login."""
        one = Initiator(self.node)
        one.send(one.login_request(NAMES))
        return one

    def status(self, one: Initiator) -> int:
        """Return the status that a login ended with."""
        response: LoginResponse = one.one(LoginResponse)
        return response.status_class << 8 | response.status_detail

    def test_each_login_looks(self) -> None:
        """A login waits for a look that began after it came."""
        first = self.login()
        second = self.login()
        self.assertEqual(len(self.calls), 1)
        self.assertEqual(first.receive(), [])
        self.deny.write_text("ALL ALL\n")
        made, function = self.calls.pop(0)
        found = function()
        self.deny.unlink()
        made.callback(found)
        self.assertEqual(self.status(first), 0x0203)
        self.assertEqual(second.receive(), [])
        self.go()
        self.assertEqual(self.status(second), 0)
        self.assertEqual(self.calls, [])

    def test_not_for_ever(self) -> None:
        """When it takes too long what was known decides; then nobody waits."""
        first = self.login()
        self.go()
        self.assertEqual(self.status(first), 0)
        late = self.login()
        self.clock.advance(PATIENCE - 0.1)
        self.assertEqual(late.receive(), [])
        self.clock.advance(0.2)
        self.assertEqual(self.status(late), 0)
        self.assertEqual(self.status(self.login()), 0)
        self.assertEqual(len(self.calls), 1)
        self.assertTrue([one for one in self.said if "does not answer" in one])
        self.go()
        again = self.login()
        self.assertEqual(again.receive(), [])
        self.go()
        self.assertEqual(self.status(again), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_known(self) -> None:
        """When nothing was ever known nobody gets in."""
        late = self.login()
        self.clock.advance(PATIENCE + 0.1)
        self.assertEqual(self.status(late), 0x0203)

    def test_connection_goes(self) -> None:
        """A login that goes meanwhile is not begun."""
        one = self.login()
        one.connection.disconnected()
        self.go()
        self.assertEqual(self.node.sessions(), [])

    def test_second_request(self) -> None:
        """Who does not wait for the answer is refused."""
        one = self.login()
        one.send(one.login_request([]))
        self.assertEqual(self.status(one), 0x0200)
        self.go()

    def test_no_thread(self) -> None:
        """Without a thread to look what was known decides."""
        self.login()
        self.go()
        one = self.login()
        made, _function = self.calls.pop(0)
        made.errback(OSError("no thread"))
        self.assertEqual(self.status(one), 0)


class ThreadTests(TestCase):
    """
    With real threads.
    """

    timeout = 60

    async def test_thread(self) -> None:
        """The files are looked at by a thread."""
        deny = Path(self.mktemp())
        deny.write_text("ALL ALL\n")
        hosts = Hosts.of(reactor, str(Path(self.mktemp())), str(deny))
        looked: Deferred[None] = Deferred()
        hosts.look(lambda: looked.callback(None))
        self.assertFalse(looked.called)
        await looked
        self.assertTrue(hosts.refused(TARGET, HERE))
