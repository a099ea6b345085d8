# SPDX-License-Identifier: MIT
"""
What the console shows of any object: its own fields, and of other objects no more than
their names, for live objects lead to all others.  Secrets are not shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import attrs

from scstd.block.volume import Volume
from scstd.management.console.tables import Rows, Values
from scstd.scsi.nexus import Nexus
from scstd.scsi.target import Target
from scstd.scsi.traits import Traits

MOST = 100
"""Entries that are shown of one collection."""

_PLAIN = (str, bytes, bytearray, int, float, Enum, Path, type(None))

SECRETS = frozenset(("IncomingUser", "OutgoingUser", "incoming", "outgoing"))
"""Keys and fields that have secrets."""

_HIDDEN = "********"


_LARGE = (Traits, Nexus, Target, Volume)
"""What says its name alone in a log."""


def brief(value: Any) -> str:
    """
    Return what is shown of an object: a line a field, or an entry.
    """
    if isinstance(value, Rows | Values):
        return repr(value)
    if isinstance(value, Mapping):
        return _lines(
            _head(value), [(str(key), _inner(key, one)) for key, one in value.items()]
        )
    if _drawn(value):
        fields = [one for one in attrs.fields(type(value)) if one.repr]
        shown = [
            (one.name, _inner(one.name, getattr(value, one.name, None)))
            for one in fields
        ]
        return _lines(_named(value), shown)
    if isinstance(value, list | tuple | set | frozenset) and type(value) in {
        list,
        tuple,
        set,
        frozenset,
    }:
        if len(value) <= MOST and all(isinstance(one, _PLAIN) for one in value):
            return repr(value)
        return _lines(
            _head(value), [(str(at), _name(one)) for at, one in enumerate(value)]
        )
    return repr(value)


def _inner(key: object, value: Any) -> str:
    if key in SECRETS:
        return _HIDDEN if value else repr(value)
    return _name(value)


def _name(value: Any) -> str:
    """
    Return what is shown of an object that another one has.
    """
    if isinstance(value, _PLAIN):
        text = repr(value)
        return text if len(text) <= 200 else f"{text[:200]}..."
    if isinstance(value, Collection) and not _drawn(value):
        small = len(value) <= 8 and not isinstance(value, Mapping)
        if small and all(isinstance(one, _PLAIN) for one in value):
            return repr(value)
        return _head(value)
    return _named(value)


def _drawn(value: Any) -> bool:
    """
    Say whether an object's text is made of its fields, whatever is in them, or would be
    if that were not half of the system.
    """
    if isinstance(value, _LARGE):
        return True
    code = getattr(type(value).__repr__, "__code__", None)
    return (
        attrs.has(type(value))
        and not isinstance(value, Mapping)
        and code is not None
        and "attrs generated" in code.co_filename
    )


def _head(value: Collection[Any]) -> str:
    count = len(value)
    return f"<{type(value).__name__}: {count} {'entry' if count == 1 else 'entries'}>"


def _named(value: Any) -> str:
    name = getattr(value, "name", None) or getattr(value, "__name__", None)
    if not isinstance(name, str):
        return f"<{type(value).__name__}>"
    return f"<{type(value).__name__} {name}>"


def _lines(head: str, shown: list[tuple[str, str]]) -> str:
    lines = [f"    {name}: {text}" for name, text in shown[:MOST]]
    if len(shown) > MOST:
        lines.append(f"    ... and {len(shown) - MOST} more")
    return "\n".join([head, *lines])
