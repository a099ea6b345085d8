# SPDX-License-Identifier: MIT
"""
What a store is looked at for when it is opened: that it provides what it says, that its
methods can be called so, and that its numbers are possible.

To look at methods costs more than all the rest of opening a device, and a thousand
devices have stores of a few classes.  So what was found of a class is kept (`_Kept`),
where its functions alone decide.  What a store's own values decide is looked at each
time.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from contextlib import suppress
from types import FunctionType
from typing import Any

import attrs
from zope.interface.exceptions import Invalid
from zope.interface.interface import Method
from zope.interface.verify import verifyObject

from scstd.block.answers import ANSWERS, AT_ONCE, NAMES, WrongError, shown, words
from scstd.interfaces import (
    IBackstore,
    IPrefetch,
    IRemovableMedium,
    IUnmap,
)

_INTERFACES = list(
    dict.fromkeys((IBackstore, *(one for one, _look in ANSWERS.values())))
)

_METHODS = tuple(
    name
    for interface in _INTERFACES
    for name in interface.names()
    if isinstance(interface[name], Method)
)
"""Every method that a store may have."""

_VALUES = {
    interface: [
        name for name in interface.names() if not isinstance(interface[name], Method)
    ]
    for interface in _INTERFACES
}
"""What a store of each interface has besides methods."""

_MOST = 1 << 63
"""Bytes that no store has: offsets are 64-bit numbers with a sign."""

_MOST_PIECE = 1 << 39
"""Bytes of which no unmap granularity is so many: in blocks it is a 31-bit number."""


def refused(store: Any) -> str:
    """
    Return what is wrong with a store, or an empty text.
    """
    if not IBackstore.providedBy(store):
        return f"it opened {shown(store)}, which provides no IBackstore"
    try:
        provided = [one for one in _INTERFACES if one.providedBy(store)]
        functions = _functions_of(store)
        key = None if functions is None else (*functions, *provided)
        if not _VERIFIED.has(key):
            for interface in provided:
                _verify(interface, store)
            _VERIFIED.keep(key, True)
        _see_values(provided, store)
        return _wrong_numbers(store)
    except WrongError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - properties are somebody's code
        return f"its store raised {words(error)}"


def coroutines_of(store: Any) -> frozenset[str]:
    """
    Return which of a store's methods (`scstd.interfaces`) make coroutines.
    """
    key = _functions_of(store)
    if _COROUTINES.has(key):
        known: frozenset[str] = _COROUTINES.kept[key]
        return known
    found = frozenset(
        name for name in NAMES if is_coroutine(getattr(store, name, None))
    )
    _COROUTINES.keep(key, found)
    return found


@attrs.frozen
class _Kept:
    """
    What was found of functions; without a key (None) nothing is kept.
    """

    most: int = 256
    """How many entries there are at most: classes may be made by the hundred."""
    kept: dict[Hashable, Any] = attrs.field(factory=dict)

    def has(self, key: Hashable) -> bool:
        """Say whether something is kept under a key."""
        return key is not None and key in self.kept

    def keep(self, key: Hashable, found: Any) -> None:
        """Keep what was found."""
        if key is None:
            return
        if len(self.kept) >= self.most:
            self.kept.clear()
        self.kept[key] = found


_VERIFIED = _Kept()
_COROUTINES = _Kept()


def _functions_of(store: Any) -> tuple[Any, ...] | None:
    """
    Return the functions that a store's methods are, if its class alone says so; None of
    one that has methods of its own, or other things than functions for them.
    """
    kind: Any = type(store)
    if kind.__getattribute__ is not object.__getattribute__:
        return None
    own = getattr(store, "__dict__", ())
    names: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        names.update(vars(base))
    if "__getattr__" in names:
        return None
    functions = [names.get(name) for name in _METHODS]
    if any(name in own for name in _METHODS) or any(
        one is not None and type(one) is not FunctionType for one in functions
    ):
        return None
    return tuple(functions)


def _see_values(provided: Sequence[Any], store: Any) -> None:
    for interface in provided:
        for name in _VALUES[interface]:
            if not hasattr(store, name):
                raise WrongError(f"its store has no {name} ({interface.__name__})")


def _verify(interface: Any, store: Any) -> None:
    """
    See that a store has what an interface says, and that it can be called so.
    """
    for name in interface.names():
        described = interface[name]
        if not hasattr(store, name):
            raise WrongError(f"its store has no {name} ({interface.__name__})")
        if isinstance(described, Method):
            _verify_method(name, getattr(store, name), described.positional)
    try:
        # It trips over a method that takes nothing but *args, as decorators make them.
        with suppress(IndexError):
            verifyObject(interface, store)
    except Invalid as error:
        raise WrongError(" ".join(str(error).split())) from error


def _verify_method(name: str, method: Any, names: Sequence[str]) -> None:
    if not callable(method):
        raise WrongError(f"{name} of its store is {shown(method)}, not a method")
    if name in AT_ONCE and is_coroutine(method):
        raise WrongError(f"{name} of its store is async, and wanted at once")
    with suppress(ValueError):  # no signature to be had: it is written in C
        try:
            inspect.signature(method).bind(*names)
        except TypeError as error:
            said = f"{name}({', '.join(names)})"
            raise WrongError(f"its store cannot be called as {said}: {error}") from None


def is_coroutine(method: Any) -> bool:
    """
    Say whether calling something makes a coroutine, also behind functools.partial and
    decorators that say what they wrap.
    """
    seen = 0
    while method is not None and seen < 10:
        if inspect.iscoroutinefunction(method):
            return True
        if inspect.iscoroutinefunction(getattr(type(method), "__call__", None)):  # noqa: B004
            return True
        method = getattr(method, "__wrapped__", None) or getattr(method, "func", None)
        seen += 1
    return False


def wrong_size(size: Any, block_size: int, *, drive: bool) -> str:
    """
    Return what is wrong with a store's size, or an empty text.
    """
    if type(size) is not int or size < 0 or (not size and not drive):
        return f"size is {shown(size)}, not a number of bytes"
    if size >= _MOST:
        return f"size is {size}: more than any disk has"
    if size % block_size:
        return f"size is {size}: not whole blocks of {block_size}"
    return ""


def _wrong_numbers(store: Any) -> str:
    """
    Return which of a store's numbers make no sense, or an empty text.
    """
    block = store.block_size
    if type(block) is not int or block <= 0 or block & (block - 1):
        return f"block_size is {shown(block)}, not a power of two"
    drive = IRemovableMedium.providedBy(store)
    why = wrong_size(store.size, block, drive=drive)
    if why:
        return why
    if drive and not isinstance(store.medium, str):
        return f"medium is {shown(store.medium)}, not a name"
    limit = store.prefetch_limit if IPrefetch.providedBy(store) else block
    if type(limit) is not int or limit < 0:
        return f"prefetch_limit is {shown(limit)}, not a number of bytes"
    return _wrong_granularity(store, block) if IUnmap.providedBy(store) else ""


def _wrong_granularity(store: Any, block: int) -> str:
    piece, start = store.unmap_granularity, getattr(store, "unmap_alignment", 0)
    if type(piece) is not int or piece <= 0 or (piece % block and block % piece):
        return f"unmap_granularity is {shown(piece)}: not whole blocks of {block}"
    if max(piece, block) >= _MOST_PIECE:
        return f"unmap_granularity is {piece}: more than {_MOST_PIECE} bytes"
    if type(start) is not int or not 0 <= start < _MOST_PIECE:
        return f"unmap_alignment is {shown(start)}, not a number of bytes"
    return ""
