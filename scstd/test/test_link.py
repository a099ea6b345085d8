# SPDX-License-Identifier: MIT
"""
Tests for `scstd.workers.link`.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.block.checked import StoreFault
from scstd.management.config.reading import read
from scstd.management.errors import TreeError
from scstd.management.model.warnings import hearing, warn
from scstd.test.linking import Pair
from scstd.workers import link
from scstd.workers.link import Link, RemoteFault, attach, packed

EVERYTHING = """
setup_id 7
HANDLER vdisk_fileio {
    DEVICE disk {
        filename /nowhere/disk.img
        filter "delay read=1"
    }
}
HANDLER vcdrom {
    DEVICE drive
}
TARGET_DRIVER iscsi {
    enabled 1
    TARGET iqn.2000-01.test:one {
        LUN 0 disk {
            read_only 1
        }
        enabled 1
        GROUP hosts {
            LUN 0 drive
            INITIATOR iqn.*
        }
        IncomingUser "somebody twelve-or-more"
    }
}
DEVICE_GROUP group {
    DEVICE disk
    TARGET_GROUP here {
        group_id 1
        TARGET iqn.2000-01.test:one
    }
}
"""


class CallTests(SynchronousTestCase):
    """What is called at one end is done at the other."""

    def pair(self, **answers: Any) -> Pair:
        """Return a link whose worker answers."""
        return Pair({}, answers)

    def asked(self, answer: Any, *args: Any) -> Any:
        """Return what a call comes to."""
        pair = self.pair(it=answer)
        called = pair.front.call("it", *args)
        self.assertNoResult(called)
        pair.carry()
        return called

    def test_value(self) -> None:
        """Arguments go there, what is returned comes back."""
        found = self.asked(lambda *args: {"got": args}, 1, "two", b"three", None)
        self.assertEqual(
            {"got": (1, "two", b"three", None)}, self.successResultOf(found)
        )

    def test_any_pieces(self) -> None:
        """Messages are put together from whatever pieces they come in."""
        for size in (1, 2, 7, 13, 100):
            pair = self.pair(it=lambda text: text * 2)
            found = [pair.front.call("it", "x" * many) for many in (0, 1, 300)]
            pair.carry(size)
            for many, one in zip((0, 1, 300), found, strict=True):
                self.assertEqual("x" * 2 * many, self.successResultOf(one))

    def test_both_ways(self) -> None:
        """Each end calls the other, in any order; answers find their calls."""
        waiting: list[Deferred[str]] = [Deferred(), Deferred()]
        left = list(waiting)
        pair = Pair({"up": lambda: "front"}, {"down": lambda: left.pop(0)})
        first, second = pair.front.call("down"), pair.front.call("down")
        other = pair.worker.call("up")
        pair.carry()
        self.assertEqual("front", self.successResultOf(other))
        waiting[1].callback("second")
        pair.carry()
        self.assertNoResult(first)
        self.assertEqual("second", self.successResultOf(second))
        waiting[0].callback("first")
        pair.carry()
        self.assertEqual("first", self.successResultOf(first))

    def test_coroutine(self) -> None:
        """An answer may be a coroutine."""
        waiting: Deferred[int] = Deferred()

        async def answer() -> int:
            return 1 + await waiting

        pair = self.pair(it=answer)
        found = pair.front.call("it")
        pair.carry()
        waiting.callback(41)
        pair.carry()
        self.assertEqual(42, self.successResultOf(found))

    def test_tell(self) -> None:
        """What is told is done, and what comes of it goes to the log there."""
        heard: list[int] = []

        def fails() -> None:
            raise OSError("told")

        pair = self.pair(it=heard.append, fails=fails)
        pair.front.tell("it", 5)
        pair.front.tell("fails")
        pair.front.tell("it", 6)
        pair.carry()
        self.assertEqual([5, 6], heard)
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))

    def test_configuration(self) -> None:
        """A whole configuration goes over, its plugins by their names."""
        whole = read(EVERYTHING, "test")
        found = self.successResultOf(self.asked(lambda one: one, whole))
        self.assertEqual(whole, found)
        self.assertIs(whole.devices[0].handler, found.devices[0].handler)
        self.assertIs(
            whole.devices[0].filters[0].filter, found.devices[0].filters[0].filter
        )

    def test_plugin_missing(self) -> None:
        """One that is not there at the other end is refused, and the link goes on."""
        whole = read(EVERYTHING, "test")
        pair = self.pair(it=lambda *_args: "fine")
        found = pair.front.call("it", whole)
        table = {**link._PLUGINS}
        for one in table:
            table[one] = mock.Mock(
                side_effect=ConfigurationError("there is no handler")
            )
        with mock.patch.object(link, "_PLUGINS", table):
            pair.carry()
        failure = self.failureResultOf(found, ConfigurationError)
        self.assertIn("there is no handler", failure.getErrorMessage())
        again = pair.front.call("it")
        pair.carry()
        self.assertEqual("fine", self.successResultOf(again))

    def failing(self, error: Exception) -> Any:
        """Return what comes over of an error."""

        def answer() -> None:
            raise error

        return self.failureResultOf(self.asked(answer)).value

    def test_errors(self) -> None:
        """Errors that are for people keep their class, number and text."""
        for error in (
            ConfigurationError("not this"),
            TreeError(errno.EBUSY, "in use"),
            OSError(errno.ENOSPC, "full"),
            OSError(errno.ENOENT, "not there", "/some/file"),
            OSError("without a number"),
            StoreFault("half a block"),
        ):
            found = self.failing(error)
            self.assertIs(type(error), type(found))
            self.assertEqual(str(error), str(found))
            self.assertEqual(
                getattr(error, "errno", None), getattr(found, "errno", None)
            )

    def test_fault(self) -> None:
        """Anything else is told in a line; its traceback is in the log there."""
        found = self.failing(ZeroDivisionError("by nothing"))
        self.assertIsInstance(found, RemoteFault)
        self.assertIn("by nothing", str(found))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_unknown(self) -> None:
        """What nobody answers to is said."""
        pair = self.pair()
        found = pair.front.call("it")
        pair.carry()
        self.assertIn("'it'", str(self.failureResultOf(found, RemoteFault).value))

    def test_cannot_be_sent(self) -> None:
        """What cannot travel is refused at the sender, and nothing is lost by it."""
        pair = self.pair(it=lambda *args: args or (lambda: None))
        found = pair.front.call("it", lambda: None)
        self.failureResultOf(found, RemoteFault)
        with mock.patch.object(link, "LONGEST", 1000):
            self.failureResultOf(pair.front.call("it", "x" * 1001), RemoteFault)
        self.assertRaises(RemoteFault, pair.front.tell, "it", lambda: None)
        answered = pair.front.call("it")
        pair.carry()
        self.failureResultOf(answered, RemoteFault)
        again = pair.front.call("it", 1)
        pair.carry()
        self.assertEqual((1,), self.successResultOf(again))

    def test_warnings(self) -> None:
        """What is to be said there is heard by who called, now and later."""
        waiting: Deferred[None] = Deferred()

        async def answer() -> None:
            warn("at once")
            await waiting
            warn("later")

        pair = self.pair(it=answer, other=lambda: warn("not ours"))
        with hearing() as said:
            found = pair.front.call("it")
        other = pair.front.call("other")
        pair.carry()
        waiting.callback(None)
        pair.carry()
        self.successResultOf(found)
        self.successResultOf(other)
        self.assertEqual(["at once", "later"], said)

    def test_warnings_of_refused(self) -> None:
        """They are heard also when it is refused after all."""

        def answer() -> None:
            warn("before")
            raise TreeError(errno.EBUSY, "in use")

        pair = self.pair(it=answer)
        with hearing() as said:
            found = pair.front.call("it")
        pair.carry()
        self.failureResultOf(found, TreeError)
        self.assertEqual(["before"], said)

    def test_cancelled(self) -> None:
        """Who does not wait any more hears nothing of what comes."""
        pair = self.pair(it=lambda: 1 / 0)
        found = pair.front.call("it")
        found.cancel()
        self.failureResultOf(found, CancelledError)
        pair.carry()
        self.flushLoggedErrors(ZeroDivisionError)


class GoneTests(SynchronousTestCase):
    """A link that goes."""

    def test_under_way(self) -> None:
        """Calls under way fail, later ones at once, and each end hears of it once."""
        gone: list[str] = []
        pair = Pair(Link({}, gone.append), Link({"it": Deferred}, gone.append))
        found = pair.front.call("it")
        pair.carry()
        pair.cut()
        self.failureResultOf(found, ConnectionLost)
        self.failureResultOf(pair.front.call("it"), ConnectionLost)
        pair.front.tell("it")
        self.assertEqual(2, len(gone))

    def test_answered_late(self) -> None:
        """An answer that comes when the link is gone goes nowhere."""
        waiting: Deferred[int] = Deferred()
        pair = Pair({}, {"it": lambda: waiting})
        found = pair.front.call("it")
        pair.carry()
        pair.cut()
        waiting.callback(1)
        self.failureResultOf(found, ConnectionLost)

    def test_closed(self) -> None:
        """What was said before a link is closed goes over."""
        heard: list[int] = []
        pair = Pair({}, {"it": heard.append})
        pair.front.tell("it", 1)
        pair.front.close()
        pair.carry()
        self.assertEqual([1], heard)


class FileTests(TestCase):
    """Open files beside calls, by real sockets."""

    def ends(self, **answers: Any) -> tuple[Link, Link]:
        """Return the two ends of a link."""
        over: list[Deferred[str]] = [Deferred(), Deferred()]
        made = (Link({}, over[0].callback), Link(answers, over[1].callback))
        for one, end in zip(made, socket.socketpair(), strict=True):
            attach(reactor, end, one)

        async def close() -> None:
            made[0].close()
            for one in over:
                await one

        self.addCleanup(lambda: Deferred.fromCoroutine(close()))
        return made

    def file(self, text: bytes) -> int:
        """Return a file that says something; at the end no copy of it may be left."""
        reading, writing = os.pipe()
        os.write(writing, text)

        def look() -> None:
            with open(writing, "wb", 0) as end, self.assertRaises(BrokenPipeError):  # noqa: PTH123
                end.write(b"anybody there")

        self.addCleanup(look)
        return reading

    def sent(self, link: Link, name: str, *args: Any, text: bytes) -> Deferred[Any]:
        """Call something with a file, and close our own."""
        fd = self.file(text)
        called = link.call(name, *args, fd=fd)
        os.close(fd)
        return called

    @staticmethod
    def read(*args: Any, fd: int) -> tuple[Any, ...]:
        """Return what comes, and what is in the file."""
        inherited = os.get_inheritable(fd)
        with open(fd, "rb") as file:
            return (*args, os.read(file.fileno(), 100), inherited)

    async def test_files(self) -> None:
        """Each file comes with its call; ours may be closed at once."""
        front, _worker = self.ends(read=self.read, plain=lambda text: text)
        called = []
        for number in range(100):
            called.append(front.call("plain", str(number)))
            text = "x" * number * 50
            called.append(self.sent(front, "read", text, text=b"%d" % number))
        for number in range(100):
            self.assertEqual(str(number), await called[2 * number])
            self.assertEqual(
                ("x" * number * 50, b"%d" % number, False), await called[2 * number + 1]
            )

    async def test_lost(self) -> None:
        """A file that did not arrive fails its own call, and is no other's."""
        front, worker = self.ends(read=self.read)
        take = worker.fileDescriptorReceived
        taken: list[int] = []

        def lose_first(descriptor: int) -> None:
            taken.append(descriptor)
            if len(taken) == 1:
                os.close(descriptor)
            else:
                take(descriptor)

        with mock.patch.object(worker, "fileDescriptorReceived", lose_first):
            first = self.sent(front, "read", text=b"one")
            second = self.sent(front, "read", text=b"two")
            with self.assertRaises(OSError) as caught:
                await first
            self.assertEqual(errno.EMFILE, caught.exception.errno)
            self.assertEqual((b"two", False), await second)

    async def test_nobody(self) -> None:
        """A file for nobody is closed."""
        front, _worker = self.ends()
        with self.assertRaises(RemoteFault):
            await self.sent(front, "it", text=b"one")

    async def test_large(self) -> None:
        """A message of megabytes goes over, and the sender knows of the jam."""
        front, _worker = self.ends(it=len)
        called = front.call("it", b"x" * 5_000_000)
        self.assertTrue(front.congested)
        relieved: list[bool] = []
        front.relieved = lambda: relieved.append(front.congested)
        self.assertEqual(5_000_000, await called)
        self.assertEqual([False], relieved)

    def test_packed(self) -> None:
        """What is packed is as small as can be: plugins are names."""
        whole = read(EVERYTHING, "test")
        self.assertNotIn(b"scstd.handlers", packed(whole))
