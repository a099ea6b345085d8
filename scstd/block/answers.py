# SPDX-License-Identifier: MIT
"""
What each call of a store may answer (`scstd.interfaces`), and words for what it may
not: a type and a length, never the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scstd.interfaces import (
    Extent,
    IBackstore,
    IBlockStatus,
    ICompareAndWrite,
    ICopySource,
    ICopyTarget,
    IExtents,
    IMediumIdentity,
    IPrefetch,
    IRemovableMedium,
    IResize,
    IResizeNotice,
    ISessions,
    ISpace,
    IUnmap,
    IWriteZeroes,
)

AT_ONCE = ("place", "on_resize", "on_medium", "session_opened", "session_closed")
"""Methods whose result is wanted at once: no Deferred, no coroutine."""

LONGEST_IDENTITY = 1024
"""Characters of what a medium is known by."""


class WrongError(Exception):
    """
    Something does not keep the contract; the text says what it is.
    """


def whole(value: Any) -> bool:
    """
    Say whether something is an integer, and no bool.
    """
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """
    Return a value in a few words: of bytes and strings the length.
    """
    kind = type(value)
    name = kind.__qualname__
    if kind in {int, bool, float, type(None)}:
        return repr(value)[:40]
    if isinstance(value, memoryview):
        return f"a memoryview of {value.nbytes} bytes"
    try:
        size = f" of {len(value)}"
    except Exception:  # noqa: BLE001 - it has none, or is broken
        size = ""
    if kind is bytes:
        return f"{size[4:]} bytes"
    if kind.__module__ not in {"builtins", "types"}:
        name = f"{kind.__module__}.{name}"
    return f"{name}{size}"


def plain(view: memoryview) -> bool:
    """
    Say whether a view is one of bytes in a row that cannot be changed.
    """
    return view.readonly and view.c_contiguous and view.nbytes == len(view)


def nothing(value: Any, args: Sequence[Any]) -> None:  # noqa: ARG001
    """
    See that there is nothing.
    """
    if value is not None:
        raise WrongError(f"returned {shown(value)}, not None")


def _offset_found(value: Any, args: Sequence[Any]) -> int:
    if not whole(value) or not -1 <= value < len(args[1]):
        raise WrongError(f"returned {shown(value)}, neither -1 nor an offset")
    return int(value)


def _yes_or_no(value: Any, args: Sequence[Any]) -> bool:  # noqa: ARG001
    if value is not True and value is not False:
        raise WrongError(f"returned {shown(value)}, neither True nor False")
    return bool(value)


def _space(value: Any, args: Sequence[Any]) -> tuple[int, int]:  # noqa: ARG001
    two = isinstance(value, (tuple, list)) and len(value) == 2
    if not two or not all(whole(one) and one >= 0 for one in value):
        raise WrongError(f"returned {shown(value)}, not (used, total)")
    return value[0], value[1]


def _extents(value: Any, args: Sequence[Any]) -> Sequence[Extent]:
    if not isinstance(value, (list, tuple)) or not value:
        raise WrongError(f"returned {shown(value)}, not a list of extents")
    at, end = args[0], args[0] + args[1]
    for one in value:
        if not isinstance(one, Extent):
            raise WrongError(f"returned a list with {shown(one)}")
        if not (whole(one.offset) and whole(one.length) and type(one.mapped) is bool):
            raise WrongError("returned an extent of something else than numbers")
        if one.offset != at or one.length <= 0 or at >= end:
            raise WrongError(f"returned {one}, where one from {at} was to come")
        at += one.length
    if at > end:
        last = value[-1]
        return [*value[:-1], Extent(last.offset, end - last.offset, last.mapped)]
    return value


def _place(value: Any, args: Sequence[Any]) -> tuple[int, int] | None:  # noqa: ARG001
    two = isinstance(value, tuple) and len(value) == 2
    if value is None or (two and all(whole(one) and one >= 0 for one in value)):
        place: tuple[int, int] | None = value
        return place
    raise WrongError(f"returned {shown(value)}, not (descriptor, offset)")


def _identity(value: Any, args: Sequence[Any]) -> str | None:  # noqa: ARG001
    if value is not None and not (
        isinstance(value, str) and 0 < len(value) <= LONGEST_IDENTITY
    ):
        raise WrongError(f"returned {shown(value)}, neither a short text nor None")
    return value


ANSWERS: dict[str, tuple[Any, Callable[[Any, Sequence[Any]], Any]]] = {
    "flush": (IBackstore, nothing),
    "close": (IBackstore, nothing),
    "unmap": (IUnmap, nothing),
    "write_zeroes": (IWriteZeroes, nothing),
    "compare_and_write": (ICompareAndWrite, _offset_found),
    "block_status": (IBlockStatus, _extents),
    "extents": (IExtents, _extents),
    "prefetch": (IPrefetch, nothing),
    "space": (ISpace, _space),
    "medium_identity": (IMediumIdentity, _identity),
    "place": (ICopySource, _place),
    "copy_from": (ICopyTarget, _yes_or_no),
    "resync_size": (IResizeNotice, nothing),
    "resize": (IResize, nothing),
    "change": (IRemovableMedium, nothing),
    "eject": (IRemovableMedium, nothing),
    "load": (IRemovableMedium, nothing),
    "session_opened": (ISessions, nothing),
    "session_closed": (ISessions, nothing),
}
"""
What the calls besides read and write may answer, and whose they are: a function of the
answer and of the call's arguments that returns what is handed on, or raises
`WrongError`.
"""


def _names(interface: Any, method: str) -> Sequence[str]:
    names: Sequence[str] = interface[method].positional
    return names


NAMES = {
    **{name: _names(interface, name) for name, (interface, _look) in ANSWERS.items()},
    "read": _names(IBackstore, "read"),
    "write": _names(IBackstore, "write"),
}


def call_of(name: str, args: Sequence[Any]) -> str:
    """
    Return a call as the log has it.
    """
    pairs = zip(NAMES[name], args, strict=False)
    said = ", ".join(f"{one}={shown(value)}" for one, value in pairs)
    return f"{name}({said})"


def words(error: BaseException) -> str:
    """
    Return an exception in one line.
    """
    try:
        text = " ".join(str(error).split())[:200]
    except Exception:  # noqa: BLE001 - an exception of somebody's
        text = ""
    return f"{type(error).__qualname__}{': ' if text else ''}{text}"
