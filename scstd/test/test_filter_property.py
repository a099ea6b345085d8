# SPDX-License-Identifier: MIT
"""
`Filtered` forwards what it announces, and announces nothing else: for every optional
interface, whatever the inner store provides, and whatever a filter overrides.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.interface import Method

from scstd.block.checked import checked
from scstd.filters.base import Filtered
from scstd.interfaces import IBackstore, LunSession
from scstd.test.generating import examples
from scstd.test.lying import store_interfaces

OPTIONAL = {
    name: one for name, one in store_interfaces().items() if one is not IBackstore
}

SESSION = LunSession(1, "i", "p", "t", 0, "d")


def names_of(interface: Any, *, methods: bool) -> list[str]:
    """Return the methods of an interface, or its attributes."""
    return [
        name
        for name in interface.names()
        if isinstance(interface[name], Method) is methods
    ]


METHODS = sorted(
    {name for one in OPTIONAL.values() for name in names_of(one, methods=True)}
)
CHANGEABLE = ("read", "write", "size", *METHODS)
"""What a filter may override."""

NUMBERS = {"unmap_granularity": 4096, "unmap_alignment": 512, "prefetch_limit": 8192}


class Inner:
    """
    A store that has what its interfaces say, and nothing else.
    """

    size = 1 << 20
    block_size = 512

    def __init__(self, provided: set[str]) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        interfaces = [IBackstore, *(OPTIONAL[name] for name in provided)]
        for one in interfaces:
            for name in names_of(one, methods=True):
                setattr(self, name, self._method(name))
            for name in names_of(one, methods=False):
                if name not in {"size", "block_size"}:
                    setattr(self, name, NUMBERS.get(name, f"its {name}"))
        directlyProvides(self, *interfaces)

    def _method(self, name: str) -> Any:
        def call(*args: Any) -> str:
            self.calls.append((name, args))
            return f"its {name}"

        return call


def filter_of(overridden: set[str], transparent: set[str]) -> type[Filtered]:
    """
    Return a kind of filter that overrides these, and says to be transparent for those.
    """

    def method(name: str) -> Any:
        def call(self: Any, *args: Any) -> Any:
            self.seen.append(name)
            return getattr(self.inner, name)(*args)

        return call

    body: dict[str, Any] = {name: method(name) for name in overridden - {"size"}}
    if "size" in overridden:
        body["size"] = property(lambda self: self.inner.size // 2)
    body["transparent"] = tuple(OPTIONAL[name] for name in transparent)
    body["seen"] = []
    return type("Made", (Filtered,), body)


class PropertyTests(SynchronousTestCase):
    """
    The promise of `Filtered`.
    """

    @examples(300)
    @given(
        st.sets(st.sampled_from(sorted(OPTIONAL))),
        st.sets(st.sampled_from(CHANGEABLE), max_size=6),
        st.sets(st.sampled_from(sorted(OPTIONAL)), max_size=3),
    )
    def test_forwards(
        self, provided: set[str], overridden: set[str], transparent: set[str]
    ) -> None:
        """
        What is announced the inner store has, and each of its methods gets there with
        its arguments, and its answer back; each attribute is the inner store's.
        """
        inner: Any = Inner(provided)
        store: Any = filter_of(overridden, transparent)(inner)
        for name, interface in OPTIONAL.items():
            if not interface.providedBy(store):
                continue
            self.assertIn(name, provided)
            for method in names_of(interface, methods=True):
                args = interface[method].positional
                inner.calls.clear()
                answer = getattr(store, method)(*args)
                self.assertEqual(inner.calls, [(method, tuple(args))])
                if not method.startswith(("on_", "session_")):
                    self.assertEqual(answer, f"its {method}")
            for attribute in names_of(interface, methods=False):
                self.assertEqual(getattr(store, attribute), getattr(inner, attribute))

    @examples(300)
    @given(
        st.sets(st.sampled_from(sorted(OPTIONAL))),
        st.sets(st.sampled_from(CHANGEABLE), max_size=6),
        st.sets(st.sampled_from(sorted(OPTIONAL)), max_size=3),
    )
    def test_announces(
        self, provided: set[str], overridden: set[str], transparent: set[str]
    ) -> None:
        """
        What the inner store has and the filter does not announce is what would let
        bytes, or the size, pass by what the filter overrides: no more, and no less.
        """
        inner: Any = Inner(provided)
        store: Any = filter_of(overridden, transparent)(inner)
        bytes_seen = bool(overridden & {"read", "write"})
        for name in provided - transparent:
            interface = OPTIONAL[name]
            methods = set(names_of(interface, methods=True))
            told = interface.providedBy(store)
            if not overridden & {"read", "write", "size", "extents", "block_status"}:
                self.assertTrue(told, name)
            elif name in {"IResize", "IResizeNotice"}:
                by_itself = {"resize", "on_resize"} & methods & overridden
                self.assertEqual(told, "size" not in overridden or bool(by_itself))
            elif name in {"IBlockStatus", "IExtents"}:
                other = {"extents", "block_status"} - methods
                changed = bytes_seen or bool(other & overridden)
                self.assertEqual(told, not changed or methods <= overridden)
            elif name in BYTES:
                itself = bool(methods) and methods <= overridden
                self.assertEqual(told, not bytes_seen or itself)
            else:
                self.assertTrue(told, name)
        for name in transparent & provided:
            self.assertTrue(OPTIONAL[name].providedBy(store))

    def test_each_is_sorted(self) -> None:
        """Which interfaces are about bytes is said in this file once more, by hand."""
        others = {"IResize", "IResizeNotice", "IBlockStatus", "IExtents"}
        told = {
            name
            for name in OPTIONAL
            if OPTIONAL[name].providedBy(filter_of({"read"}, set())(_all()))
        }
        self.assertEqual(set(OPTIONAL) - told - others, BYTES)

    def test_not_had(self) -> None:
        """What the inner store does not have a filter fails to do, but for sessions."""
        bare: Any = Inner(set())
        store: Any = Filtered(bare)
        for name, interface in OPTIONAL.items():
            self.assertFalse(interface.providedBy(store), name)
            for method in names_of(interface, methods=True):
                args = interface[method].positional
                if "session" in method:
                    self.assertIsNone(getattr(store, method)(SESSION))
                else:
                    self.assertRaises(AttributeError, getattr(store, method), *args)

    def test_checked(self) -> None:
        """What is held to the contract announces what its store does, and has it."""
        for name, interface in OPTIONAL.items():
            store: Any = checked(_all({name}), "disk")
            told = {one for one in OPTIONAL if OPTIONAL[one].providedBy(store)}
            self.assertEqual(told, {name})
            for method in names_of(interface, methods=True):
                self.assertTrue(callable(getattr(store, method)))
            for attribute in names_of(interface, methods=False):
                self.assertEqual(
                    getattr(store, attribute), getattr(store.inner, attribute)
                )


BYTES = {
    "ICompareAndWrite",
    "ICopySource",
    "ICopyTarget",
    "IGivenBuffers",
    "IUnmap",
    "IWriteThrough",
    "IWriteZeroes",
}
"""What a filter that sees bytes has to see too, or not to announce."""


def _all(provided: set[str] | None = None) -> Any:
    """
    Return a store that provides these interfaces, or all.
    """
    inner: Any = Inner(set(OPTIONAL) if provided is None else provided)
    if provided is not None:
        # Its methods are looked at: with names, as the interfaces have them.
        for one in (IBackstore, *(OPTIONAL[name] for name in provided)):
            for name in names_of(one, methods=True):
                names = ", ".join(one[name].positional)
                setattr(inner, name, eval(f"lambda {names}: None"))
    return inner
