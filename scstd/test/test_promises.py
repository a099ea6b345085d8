# SPDX-License-Identifier: MIT
"""
What is found of a class of stores is kept, and never believed of anything else.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer

from scstd.block import promises
from scstd.block.checked import checked
from scstd.block.promises import refused
from scstd.interfaces import IBackstore, IUnmap


@implementer(IBackstore)
class Plain:
    """A store that keeps its promises."""

    size = 1 << 20
    block_size = 512

    def read(self, offset: int, length: int) -> bytes:
        """Return zeros."""
        return bytes(length)

    def write(self, offset: int, data: Any, fua: bool) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def looked_at(*stores: Any) -> int:
    """
    Return how often an interface is compared with a store, of these.
    """
    with mock.patch.object(promises, "_verify", wraps=promises._verify) as verify:
        for one in stores:
            refused(one)
    return int(verify.call_count)


class KeptTests(SynchronousTestCase):
    """
    A thousand stores of one class are looked at once.
    """

    def setUp(self) -> None:
        """Nothing is known of this class yet, though it is usual."""
        self.kind: Any = type("Fresh", (Plain,), {"flush": lambda self: None})
        self.assertEqual(refused(self.kind()), "")

    def test_once(self) -> None:
        """The second store of a class is not compared again."""
        self.assertEqual(looked_at(self.kind(), self.kind()), 0)

    def test_values(self) -> None:
        """Its numbers are looked at each time, and whether it has them."""
        odd = self.kind()
        odd.size = 1000
        self.assertIn("not whole blocks", refused(odd))
        alsoProvides(odd, IUnmap)
        odd.unmap = lambda offset, length: None
        self.assertIn("no unmap_granularity", refused(odd))

    def test_more_provided(self) -> None:
        """A store that provides more than its class is looked at for that."""
        more = self.kind()
        more.unmap_granularity = 512
        alsoProvides(more, IUnmap)
        self.assertIn("no unmap", refused(more))

    def test_own_method(self) -> None:
        """A method that a store has of its own is no method of its class."""
        own = self.kind()
        own.read = lambda: b""
        self.assertIn("cannot be called as read(offset, length)", refused(own))
        self.assertEqual(refused(self.kind()), "")

    def test_class_changed(self) -> None:
        """A class that was changed is another one, and so is one derived from it."""
        self.patch(self.kind, "read", lambda self: b"")
        self.assertIn("cannot be called", refused(self.kind()))
        derived: Any = type("Derived", (Plain,), {"write": lambda self: None})
        self.assertIn("cannot be called", refused(derived()))

    def test_base_changed(self) -> None:
        """So is one whose base was changed."""
        self.patch(Plain, "read", lambda self: b"")
        self.assertIn("cannot be called", refused(self.kind()))

    def test_made_on_demand(self) -> None:
        """What makes its methods when they are asked for is looked at each time."""

        @implementer(IBackstore)
        class Proxy:
            def __init__(self, inner: Any) -> None:
                self.inner = inner

            def __getattr__(self, name: str) -> Any:
                return getattr(self.inner, name)

        self.assertEqual(refused(Proxy(self.kind())), "")
        broken = self.kind()
        broken.read = None
        self.assertIn("not a method", refused(Proxy(broken)))

    def test_coroutines(self) -> None:
        """Which methods make coroutines is known of each class by itself."""

        async def read(self: Any, offset: int, length: int) -> bytes:
            del self, offset
            return bytes(length)

        plain = checked(self.kind(), "disk")
        late = checked(type("Late", (self.kind,), {"read": read})(), "disk")
        self.assertEqual(plain.read(0, 512), bytes(512))
        fired = late.read(0, 512)
        self.assertEqual(self.successResultOf(fired), bytes(512))  # type: ignore[arg-type]

    def test_bounded(self) -> None:
        """What is kept is bounded, however many classes there are."""
        for _number in range(2 * promises._VERIFIED.most):
            kind: Any = type("One", (Plain,), {"flush": lambda self: None})
            checked(kind(), "disk")
        self.assertLessEqual(len(promises._VERIFIED.kept), promises._VERIFIED.most)
