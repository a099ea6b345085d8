# SPDX-License-Identifier: MIT
"""
What is remembered over restarts of a volume, and of who stands on it: an identity,
saved modes, reservations, what is pending of its medium (`scstd.block.remembered`).

One small mapping (JSON) a volume, and a record beside it, kept by whoever opens it:
`scstd.management.state.state` does in the state directory.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from scstd.interfaces import Result


class Persistence(Protocol):
    """
    A small mapping whose entries are replaced one by one; *durable* says whether that
    outlives the process.
    """

    @property
    def durable(self) -> bool:
        """Whether anything is kept at all."""

    def load(self) -> dict[str, Any]:
        """Return what there is."""

    def update(self, key: str, value: Any) -> Result[None]:
        """
        Replace one entry, so that a crash leaves the old or the new mapping; it is
        durable when the result is there.

        :raises OSError: it cannot be kept: then the old one is, and stays.
        """

    def insist(self, key: str, value: Any) -> Result[None]:
        """
        Replace one entry by a fact, which is so whether it can be kept or not: it is
        written until it is, and durable when the result is there.
        """

    def keep(self, record: bytes) -> Result[None]:
        """
        Replace the one record beside the mapping, so that a crash leaves the old one,
        the new one or none: cheaper than an entry, and for more bytes.

        :raises OSError: it cannot be kept, but may be there nevertheless.
        """

    def clear(self) -> Result[None]:
        """
        See that there is no such record any more; in other ways, too, where it cannot
        be replaced.

        :raises OSError: it may be there still, or again after a crash.
        """

    def clear_in_time(self) -> Result[None]:
        """
        Do the same again and again, until it is done: the result is there then.
        """

    def hurry(self) -> None:
        """
        Try at once what is to be tried again.
        """

    def kept(self) -> bytes:
        """Return that record, or nothing."""


@attrs.define(eq=False)
class Volatile:
    """
    The memory of a unit that has none beyond its own life.
    """

    values: dict[str, Any] = attrs.field(factory=dict)
    durable: bool = False
    record: bytes = b""

    def load(self) -> dict[str, Any]:
        """Return what there is."""
        return dict(self.values)

    def update(self, key: str, value: Any) -> None:
        """Replace one entry."""
        self.values[key] = value

    def insist(self, key: str, value: Any) -> Result[None]:
        """Replace one entry, whatever happens."""
        self.values[key] = value
        return None

    def keep(self, record: bytes) -> Result[None]:
        """Replace the record."""
        self.record = record
        return None

    def clear(self) -> Result[None]:
        """Forget the record."""
        return self.keep(b"")

    def clear_in_time(self) -> Result[None]:
        """Forget the record."""
        return self.clear()

    def hurry(self) -> None:
        """Do nothing: nothing is tried again."""

    def kept(self) -> bytes:
        """Return the record."""
        return self.record
