# SPDX-License-Identifier: MIT
"""
Tests for `scstd.block.checked`: what is looked at when a store is opened, and that every
call of every interface is.
"""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import directlyProvides
from zope.interface.interface import Method

from scstd.block.answers import ANSWERS
from scstd.block.checked import Checked, Home, StoreFault, checked
from scstd.filters.base import Filtered
from scstd.interfaces import (
    IBackstore,
    IPrefetch,
    IUnmap,
)
from scstd.scsi.device import open_disk
from scstd.test.lying import SIZE, LyingStore, store_interfaces
from scstd.test.stores import memory
from scstd.test.test_checked import Logged, _coroutine


class OpenTests(SynchronousTestCase):
    """
    What is looked at when a store is opened.
    """

    def refused(self, store: Any) -> str:
        """Return why a store is refused."""
        error: Any = self.assertRaises(ValueError, open_disk, "d", store)
        self.assertNotIn("\n", str(error))
        return str(error)

    def test_no_store(self) -> None:
        """What provides no IBackstore is no store."""
        for what, said in (
            (None, "None"),
            ("disk.img", "str of 8"),
            (_coroutine, "function"),
        ):
            why = self.refused(what)
            self.assertIn(f"it opened {said}, which provides no IBackstore", why)

    def test_methods(self) -> None:
        """Missing methods and other signatures are named."""

        class Bare:
            size = 1 << 20
            block_size = 512

        bare = Bare()
        directlyProvides(bare, IBackstore)
        self.assertIn(
            "store Bare: its store has no read (IBackstore)", self.refused(bare)
        )

        class Short(LyingStore):
            def read(self, offset: int) -> Any:  # type: ignore[override]
                return b""

        self.assertIn("cannot be called as read(offset, length)", self.refused(Short()))

        class Needy(LyingStore):
            def unmap(self, offset: int, length: int, how: int) -> Any:  # type: ignore[override]
                return None

        self.assertIn(
            "cannot be called as unmap(offset, length)", self.refused(Needy())
        )

        class Late(LyingStore):
            async def place(self, offset: int, length: int) -> Any:
                return None

        self.assertIn("place of its store is async", self.refused(Late()))

        class Word(LyingStore):
            flush = "yes"  # type: ignore[assignment]

        self.assertIn(
            "flush of its store is str of 3, not a method", self.refused(Word())
        )

    def test_numbers(self) -> None:
        """Numbers that are none, or none of theirs, are named."""
        for name, value, said in (
            ("size", "1M", "size is str of 2, not a number"),
            ("size", -512, "size is -512, not a number"),
            ("size", 1000, "size is 1000: not whole blocks of 512"),
            ("size", 1e6, "size is 1000000.0, not a number"),
            ("size", True, "size is True, not a number"),
            ("size", 0, "size is 0, not a number"),
            ("size", 1 << 63, "more than any disk has"),
            ("unmap_granularity", 1 << 45, "unmap_granularity is 35184372088832: more"),
            ("block_size", 500, "block_size is 500, not a power of two"),
            ("block_size", None, "block_size is None"),
            ("unmap_granularity", 700, "unmap_granularity is 700: not whole blocks"),
            ("unmap_granularity", 0, "unmap_granularity is 0"),
            ("unmap_alignment", -1, "unmap_alignment is -1"),
            ("prefetch_limit", "all", "prefetch_limit is str of 3"),
        ):
            store = LyingStore()
            setattr(store, name, value)
            self.assertIn(said, self.refused(store))

    def test_property_that_raises(self) -> None:
        """An attribute that raises is a reason like another."""

        class Broken(LyingStore):
            @property
            def size(self) -> int:  # type: ignore[override]
                raise RuntimeError("not\nyet")

        self.assertIn("RuntimeError: not yet", self.refused(Broken()))

    def test_size_later(self) -> None:
        """A size that makes no sense later is not taken over."""
        store = LyingStore()
        unit = open_disk("d", store)
        for size in (1, -1, None, "2M"):
            store.size = size  # type: ignore[assignment]
            store.told(size)
            self.assertEqual(unit.blocks, SIZE // 512)
        store.size = 2 * SIZE
        store.told(store.size)
        self.assertEqual(unit.blocks, 2 * SIZE // 512)


class EveryTests(Logged):
    """
    Nothing that a store may be asked is forgotten.
    """

    def test_all_calls(self) -> None:
        """Each method of an optional interface of a store has its row here."""
        known = {"read", "write", "on_resize", "on_medium", *ANSWERS}
        for name, one in store_interfaces().items():
            for method in one.names():
                if isinstance(one[method], Method):
                    self.assertIn(method, known, name)
                self.assertTrue(hasattr(Checked, method), (name, method))

    def test_provides(self) -> None:
        """What stands before a store provides what it does, and filters see the same."""
        inner: Any = checked(memory(), "d", "handler x")
        outer: Any = checked(Filtered(inner), "d", "filter y")
        for interface in (IBackstore, IPrefetch, IUnmap):
            self.assertTrue(interface.providedBy(outer))
        self.assertIs(checked(outer, "d"), outer)

    def test_blame(self) -> None:
        """The log names the layer that broke its word, once."""
        inner: Any = checked(LyingStore(read=lambda: None), "d", "handler x")
        outer = checked(Filtered(inner), "d", "filter y")
        self.assertRaises(StoreFault, outer.read, 0, 512)
        (line,) = self.lines
        self.assertTrue(line.startswith("d: handler x: read("), line)


class ThreadTests(TestCase):
    """
    Stores that call back where they should not.
    """

    async def test_threads(self) -> None:
        """A Deferred that is fired in a thread goes on in the reactor's."""
        ours = threading.get_ident()
        where: list[int] = []
        later: Deferred[bytes] = Deferred()
        store = LyingStore(read=lambda: later)
        hop: Any = reactor
        home = Home(lambda: threading.get_ident() == ours, hop.callFromThread)
        result: Any = checked(store, "d", home=home).read(0, 512)

        def came(data: Any) -> Any:
            where.append(threading.get_ident())
            return data

        result.addCallback(came)
        thread = threading.Thread(target=lambda: later.callback(bytes(512)))
        thread.start()
        self.assertEqual(await result, bytes(512))
        thread.join()
        self.assertEqual(where, [ours])
