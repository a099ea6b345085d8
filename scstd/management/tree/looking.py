# SPDX-License-Identifier: MIT
"""
What is told of entries of the tree to who only looks: `Look`, and `contents` for a
whole part of it.
"""

from __future__ import annotations

from typing import Any

import attrs

from scstd.attributes import ConfigurationError
from scstd.management.tree.nodes import Directory, Entry, File, Link

DIRECTORY, FILE, LINK = "directory", "file", "link"


@attrs.frozen
class Look:
    """
    What an entry is: one of `DIRECTORY`, `FILE` and `LINK`.
    """

    kind: str
    size: int = 0
    """Bytes of a file's text now, with what is secret in it, or of a link's path."""
    leads: str = ""
    """Where a link leads, from the root of the tree."""
    readable: bool = True
    writable: bool = False
    private: bool = False
    """Whether there is a secret in it."""


def look_at(entry: Entry) -> Look:
    """
    Return what an entry is.
    """
    if isinstance(entry, Directory):
        return Look(DIRECTORY)
    if isinstance(entry, Link):
        return Look(LINK, len(entry.path), entry.path)
    return Look(
        FILE,
        _size(entry),
        readable=entry.readable,
        writable=entry.writable,
        private=entry.private,
    )


def _size(file: File) -> int:
    if not file.readable:
        return 0
    try:
        return len(file.read(bare=True).encode())
    except (ConfigurationError, OSError):
        # Who reads it is told why.
        return 0


def contents(entry: Entry, depth: int, only: frozenset[str] = frozenset()) -> Any:
    """
    Return an entry as what JSON knows: of a link ``{"link": PATH}``, of a file its text
    or None, of a directory what is in it by name, but for ``mgmt``, and for what is
    deeper than *depth*; if *only* has names, no other files and links.
    """
    if isinstance(entry, Link):
        return {"link": entry.path}
    if isinstance(entry, File):
        return entry.read().removesuffix("\n") if entry.reader is not None else None
    assert isinstance(entry, Directory)
    if depth < 0:
        return {}
    return {
        name: contents(one, depth - 1, only)
        for name, one in entry.entries()
        if name != "mgmt" and (not only or name in only or isinstance(one, Directory))
    }
