# SPDX-License-Identifier: MIT
"""
Tests for stores that do not keep the contract: what their initiators and the log are
told, and that nothing else happens.
"""

from __future__ import annotations

import array
import errno
import functools
import random
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import AlreadyCalledError, Deferred, fail, succeed
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, directlyProvides

from scstd.block.checked import StoreFault, checked
from scstd.initiator.commands import read10, write10
from scstd.interfaces import (
    Extent,
    IBackstore,
    IGivenBuffers,
    MediumError,
)
from scstd.test.initiator import Initiator, serve
from scstd.test.lying import SIZE, LyingStore
from scstd.test.stores import ManualStore

CAW = struct.pack(">BxQxxxBxx", 0x89, 0, 1)


SYNCHRONIZE = b"\x35" + bytes(9)


ZEROES = struct.pack(">BBQIxx", 0x93, 0x01, 0, 8)


UNMAPPING = struct.pack(">BBQIxx", 0x93, 0x09, 0, 8)


STATUS = struct.pack(">BBQIxx", 0x9E, 0x12, 0, 24)


PREFETCH = struct.pack(">BxIxHx", 0x34, 0, 8)


VERIFY = struct.pack(">BxIxHx", 0x2F, 0, 8)


COMMANDS: dict[str, tuple[bytes, int, bytes]] = {
    "read": (read10(0, 1), 512, b""),
    "write": (write10(0, 1), 0, b"w" * 512),
    "flush": (SYNCHRONIZE, 0, b""),
    "unmap": (UNMAPPING, 0, b""),
    "write_zeroes": (ZEROES, 0, b""),
    "compare_and_write": (CAW, 0, bytes(1024)),
    "block_status": (STATUS, 24, b""),
    "prefetch": (PREFETCH, 0, b""),
}
"""By call of the store, a command that makes it: CDB, Data-In, Data-Out."""


async def _coroutine() -> bytes:
    return bytes(512)


class _Rude(BaseException):
    """What is no Exception."""


def _raising(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


NONSENSE: dict[str, Callable[[], Any]] = {
    "a str": lambda: "x" * 512,
    "a list": lambda: [0] * 512,
    "an object": object,
    "a coroutine": _coroutine,
    "a method": lambda: _coroutine,
    "a Deferred of a str": lambda: succeed("x" * 512),
    "a Deferred of a coroutine": lambda: succeed(_coroutine()),
    "a number too large": lambda: 1 << 70,
    "TypeError": _raising(TypeError("no such thing")),
    "StopIteration": _raising(StopIteration()),
    "GeneratorExit": _raising(GeneratorExit()),
    "KeyboardInterrupt": _raising(KeyboardInterrupt()),
    "SystemExit": _raising(SystemExit(3)),
    "BaseException": _raising(_Rude("very")),
    "a Deferred of ValueError": lambda: fail(ValueError("later")),
    "a Deferred of SystemExit": lambda: fail(SystemExit(3)),
    "a Deferred of GeneratorExit": lambda: fail(GeneratorExit()),
}
"""What no call may answer."""


WRONG: dict[str, dict[str, Callable[[], Any]]] = {
    "read": {
        "None": lambda: None,
        "too few": lambda: bytes(511),
        "too many": lambda: bytes(513),
        "nothing": lambda: b"",
        "a Deferred of too few": lambda: succeed(bytes(100)),
        "a Deferred of None": lambda: succeed(None),
        "512 items of two bytes": lambda: memoryview(array.array("H", [0] * 512)),
        "an array": lambda: array.array("B", bytes(512)),
    },
    "write": {
        "bytes written": lambda: 512,
        "False": lambda: False,
        "empty bytes": lambda: b"",
        "a Deferred of bytes written": lambda: succeed(100),
    },
    "compare_and_write": {
        "None": lambda: None,
        "True": lambda: True,
        "an offset behind the end": lambda: 512,
        "another": lambda: -2,
    },
    "block_status": {
        "None": lambda: None,
        "no extents": list,
        "tuples": lambda: [(0, 512, True)],
        "a gap": lambda: [Extent(0, 512, True), Extent(1024, 512, True)],
        "elsewhere": lambda: [Extent(512, 512, True)],
        "an empty one": lambda: [Extent(0, 0, True)],
        "backwards": lambda: [Extent(0, -512, True)],
        "a word for mapped": lambda: [Extent(0, 512, "no")],  # type: ignore[arg-type]
        "words": lambda: [Extent("0", "512", True)],  # type: ignore[arg-type]
    },
    "flush": {"True": lambda: True},
}
"""What these calls may not answer besides."""


class Logged(SynchronousTestCase):
    """
    What is logged as an error, line by line.
    """

    def setUp(self) -> None:
        """Listen."""
        self.lines: list[str] = []
        heard: Any = self._heard
        globalLogPublisher.addObserver(heard)
        self.addCleanup(globalLogPublisher.removeObserver, heard)

    def _heard(self, event: Any) -> None:
        if event["log_level"] >= LogLevel.error and event.get("log_format"):
            self.lines.append(event["log_format"].format(**event))


class LyingTests(Logged):
    """
    Whatever comes instead of what was promised.
    """

    def do(self, name: str, lie: Callable[[], Any]) -> Any:
        """Carry out the command that makes a call whose answer is a lie."""
        store = LyingStore(**{name: lie})
        self.node, _target, (self.unit,) = serve(store)
        self.one = Initiator(self.node).ready()
        cdb, length, data = COMMANDS[name]
        done = self.one.do(cdb, read=length, data=data)
        self.assertIn(name, store.calls)
        return done

    def check(self, name: str, what: str, lie: Callable[[], Any]) -> None:
        """The command fails, with one line in the log, and the session goes on."""
        done = self.do(name, lie)
        self.assertEqual((done.status, done.key, done.asc), (2, 4, 0x4400), what)
        self.assertEqual(done.data, b"")
        self.assertEqual(len(self.lines), 1, (what, self.lines))
        (line,) = self.lines
        self.assertNotIn("\n", line)
        self.assertTrue(line.startswith(f"disk0: store LyingStore: {name}("), line)
        self.assertLess(len(line), 300)
        self.lines.clear()
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.flushLoggedErrors()

    def test_nonsense(self) -> None:
        """Another type, a coroutine, any exception: a hardware error, and one line."""
        for name in COMMANDS:
            for what, lie in NONSENSE.items():
                self.check(name, f"{name}: {what}", lie)

    def test_wrong(self) -> None:
        """So it is with answers that only look right."""
        for name, lies in WRONG.items():
            for what, lie in lies.items():
                self.check(name, f"{name}: {what}", lie)

    def test_at_once(self) -> None:
        """What is wanted at once is no Deferred, and nothing is left of one."""
        for lie in (lambda: (0,), lambda: (True, 0), lambda: fail(ValueError("x"))):
            store: Any = checked(LyingStore(place=lie), "d")
            self.assertRaises(StoreFault, store.place, 0, 512)
        self.assertEqual(len(self.lines), 3)

    def test_line(self) -> None:
        """The line has device, store, call, offset, length and what came."""
        self.do("read", lambda: bytes(100))
        said = "disk0: store LyingStore: read(offset=0, length=512) returned 100 bytes"
        self.assertEqual(self.lines, [f"{said}, not 512"])

    def test_many(self) -> None:
        """A store that is wrong each time does not fill the log."""
        store: Any = checked(LyingStore(read=lambda: None), "d")
        for _each in range(1000):
            self.assertRaises(StoreFault, store.read, 0, 512)
        self.assertEqual(len(self.lines), 16 + 5)
        self.assertTrue(self.lines[-1].endswith("not 512 bytes (512 faults so far)"))

    def test_extents_overhang(self) -> None:
        """What is told of more than was asked for is cut off."""
        store: Any = checked(
            LyingStore(block_status=lambda: [Extent(0, 1 << 40, True)]), "d"
        )
        self.assertEqual(store.block_status(0, 4096), [Extent(0, 4096, True)])

    def test_no_bytes_in_the_line(self) -> None:
        """What was read or written is in no line of the log."""
        self.do("write", lambda: "secret secret")
        self.do("read", lambda: "secret secret")
        self.assertEqual(len(self.lines), 2)
        self.assertNotIn("secret", "".join(self.lines))
        self.assertNotIn("www", "".join(self.lines))

    def test_os_errors_are_no_lies(self) -> None:
        """An OSError is what the contract has; one with an impossible place has none."""
        self.assertEqual(self.do("read", _raising(OSError(errno.EIO, "x"))).key, 3)
        for at in (-1, SIZE, 1 << 90, "here", None, 1.5):
            error = MediumError(at)  # type: ignore[arg-type]
            done = self.do("read", _raising(error))
            self.assertEqual((done.status, done.key, done.asc), (2, 3, 0x1100))
        odd = OSError("no number")
        self.assertEqual(self.do("write", _raising(odd)).key, 3)
        self.assertEqual(self.lines, [])

    def test_immediate(self) -> None:
        """Where the answer does not wait for the store the fault is told, or no matter."""
        store = LyingStore(flush=lambda: succeed(3), prefetch=lambda: succeed(3))
        one = Initiator(serve(store)[0]).ready()
        self.assertEqual(one.do(b"\x35\x02" + bytes(8)).status, 0)
        done = one.do(SYNCHRONIZE)
        self.assertEqual((done.key, done.asc), (4, 0x4400))
        one.do(b"\x34\x02" + PREFETCH[2:])
        self.assertEqual(one.do(bytes(6)).status, 0)

    def test_twice(self) -> None:
        """A Deferred that fires twice, or that two calls return, is answered once."""
        twice: Deferred[bytes] = Deferred()
        self.assertEqual(self.do("read", lambda: succeed(bytes(512))).status, 0)
        store = LyingStore(read=lambda: twice)
        one = Initiator(serve(store)[0]).ready()
        one.send(one.command(read10(0, 1), read=512))
        twice.callback(b"1" * 512)
        self.assertRaises(AlreadyCalledError, twice.callback, b"2" * 512)
        self.assertEqual(bytes(one.receive()[0].data), b"1" * 512)
        done = one.do(read10(0, 1), read=512)
        self.assertEqual((done.status, done.key, done.asc), (2, 4, 0x4400))
        self.assertIn("for the second time", self.lines[-1])

    def test_steps(self) -> None:
        """Commands of several steps are refused the same way, the first and the last."""
        for name in ("read", "write"):
            self.node, _target, (unit,) = serve(LyingStore(**{name: lambda: "no"}))
            directlyProvides(unit.store, IBackstore)
            one = Initiator(self.node).ready()
            write_and_verify = struct.pack(">BBIxHx", 0x2E, 2, 0, 8)
            done = one.do(write_and_verify, data=bytes(4096))
            self.assertEqual((done.status, done.key, done.asc), (2, 4, 0x4400))
        self.assertEqual(one.do(VERIFY).status, 0)


MORE: tuple[tuple[bytes, int, bytes], ...] = (
    (VERIFY, 0, b""),
    (struct.pack(">BBIxHx", 0x2E, 2, 0, 1), 0, bytes(512)),
    (struct.pack(">BBIxHx", 0x2F, 2, 0, 1), 0, bytes(512)),
    (struct.pack(">BBQIxx", 0x93, 0, 0, 8), 0, b"x" * 512),
    (struct.pack(">BxQIxx", 0x8B, 0, 1), 0, b"o" * 512),
    (struct.pack(">BBQHHxx", 0x9C, 0, 0, 0, 1), 0, b"a" * 512),
    (struct.pack(">B6xHx", 0x42, 24), 0, struct.pack(">HH4xQI4x", 22, 16, 0, 8)),
    (b"\x04" + bytes(5), 0, b""),
    (b"\x48\x82" + bytes(8), 0, b""),
    (b"\x1d\x20" + bytes(4), 0, b""),
    (b"\x1d\x40" + bytes(4), 0, b""),
    (bytes((0x1B, 0, 0, 0, 2, 0)), 0, b""),
    (bytes((0x1B, 0, 0, 0, 3, 0)), 0, b""),
    (b"\x35\x02" + bytes(8), 0, b""),
    (struct.pack(">BBxIHxx", 0x34, 2, 0, 8), 0, b""),
)
"""Commands of several calls, and those that go on behind their answers."""


class RandomTests(Logged):
    """
    Stores that lie at random.
    """

    def serve(self, chance: random.Random) -> Initiator:
        """Serve a store of whose calls half lie, in half of the cases."""
        store = LyingStore()
        for name in ("write", "flush", "unmap", "write_zeroes", "compare_and_write"):
            lies = [*NONSENSE.values(), *WRONG.get(name, {}).values()]
            right = {"compare_and_write": -1}.get(name)
            if chance.random() < 0.5:
                store.lies[name] = lambda lies=lies, right=right: (  # type: ignore[misc]
                    chance.choice(lies)() if chance.random() < 0.5 else right
                )
        for name in ("read", "block_status", "prefetch"):
            lies = [*NONSENSE.values(), *WRONG.get(name, {}).values()]
            if chance.random() < 0.5:
                store.lies[name] = lambda lies=lies: chance.choice(lies)()  # type: ignore[misc]
        return Initiator(serve(store)[0]).ready()

    def test_random(self) -> None:
        """Every command has its answer, nothing is logged but what the store did."""
        for seed in range(40):
            chance = random.Random(seed)
            one = self.serve(chance)
            for _each in range(25):
                cdb, length, data = chance.choice([*COMMANDS.values(), *MORE])
                done = one.do(cdb, read=length, data=data)
                self.assertIn(done.status, (0, 2, 4), (seed, cdb.hex()))
                if done.status:
                    self.assertEqual(done.data, b"")
            self.assertIn(one.do(bytes(6)).status, (0, 2), seed)
        odd = [line for line in self.lines if "store LyingStore" not in line]
        self.assertEqual(odd, [])
        self.flushLoggedErrors()


class BufferTests(Logged):
    """
    Buffers of all kinds, and those that somebody goes on using.
    """

    def read(self, data: Any, *provided: Any) -> bytes:
        """Return what is read when a store returns this, and then spoils it."""
        store = LyingStore(read=lambda: data)
        alsoProvides(store, *provided)
        found = checked(store, "d").read(0, 512)
        assert not isinstance(found, Deferred)
        whole = data.obj if isinstance(data, memoryview) else data
        if isinstance(whole, bytearray):
            whole[:] = b"!" * len(whole)
        self.assertEqual(self.lines, [])
        return bytes(found)

    def test_kinds(self) -> None:
        """Bytes, bytearrays and views of any shape are taken for the bytes they are."""
        right = bytes(range(256)) * 2
        words = array.array("H", right)
        for data in (
            right,
            bytearray(right),
            memoryview(right),
            memoryview(words),
            memoryview(bytearray(right)),
            memoryview(right).cast("B", (2, 256)),
            memoryview(b"".join(bytes((one, 0)) for one in right))[::2],
        ):
            self.assertEqual(self.read(data), right)

    def test_reused(self) -> None:
        """A buffer that the store goes on using is another one than what is sent."""
        for kind in (bytearray, lambda data: memoryview(bytearray(data))):
            self.assertEqual(self.read(kind(b"r" * 512)), b"r" * 512)

    def test_given(self) -> None:
        """A store that gives its buffers away is believed: nothing is copied."""
        data = bytearray(512)
        store = LyingStore(read=lambda: data)
        alsoProvides(store, IGivenBuffers)
        self.assertIs(checked(store, "d").read(0, 512), data)
        whole = bytes(512)
        store = LyingStore(read=lambda: whole)
        self.assertIs(checked(store, "d").read(0, 512), whole)

    def test_lying_length(self) -> None:
        """A subclass of bytes that says it is longer is as long as it is."""

        class Longer(bytes):
            def __len__(self) -> int:
                return 512

        store = LyingStore(read=lambda: Longer(b"short"))
        self.assertRaises(StoreFault, checked(store, "d").read, 0, 512)


class AsyncTests(SynchronousTestCase):
    """
    Methods that are coroutine functions.
    """

    def test_async(self) -> None:
        """They work: awaiting Deferreds, behind partial and decorators."""
        waiting: list[Deferred[None]] = []

        def plain(function: Any) -> Any:
            @functools.wraps(function)
            def call(*args: Any) -> Any:
                return function(*args)

            return call

        class Store(ManualStore):
            def __init__(self) -> None:
                super().__init__()
                later: Any = functools.partial(self._flush, 1)
                self.flush = later  # type: ignore[method-assign]

            async def _pause(self) -> None:
                waiting.append(Deferred())
                await waiting[-1]

            async def read(self, offset: int, length: int) -> Any:  # type: ignore[override]
                await self._pause()
                return self.inner.read(offset, length)

            @plain
            async def write(self, offset: int, data: Any, fua: bool) -> Any:
                await self._pause()
                self.inner.write(offset, data, fua)

            async def _flush(self, _number: int) -> None:
                await self._pause()

        one = Initiator(serve(Store())[0]).ready()
        for cdb, length, data in (
            (write10(0, 1), 0, b"a" * 512),
            (SYNCHRONIZE, 0, b""),
            (read10(0, 1), 512, b""),
        ):
            command = one.command(cdb, read=length, write=len(data), data=data)
            one.send(command)
            self.assertEqual(one.receive(), [])
            waiting.pop().callback(None)
            done = one.finish(command)
            self.assertEqual(done.status, 0)
        self.assertEqual(done.data, b"a" * 512)
