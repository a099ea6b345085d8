# SPDX-License-Identifier: MIT
"""
What a logical unit remembers over restarts: its identity, saved mode pages, persistent
reservations.

One small mapping (JSON) a unit, kept by whoever opens it: `scstd.management.state` does
in the state directory.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.interfaces import Result
from scstd.scsi.sense import ASC, CheckCondition, SenseKey

_log = Logger()


def not_kept(failure: Failure) -> None:
    """
    Fail a command whose values could not be kept: that is no error of the medium.
    """
    failure.trap(OSError)
    _log.error("what an initiator has set is not kept: {why}", why=failure.value)
    raise CheckCondition(
        SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE
    ) from failure.value


class Memory(Protocol):
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
        """

    def keep(self, record: bytes) -> Result[None]:
        """
        Replace the one record beside the mapping, so that a crash leaves the old one,
        the new one or none: cheaper than an entry, and for more bytes.
        """

    def kept(self) -> bytes:
        """Return that record, or nothing."""


@attrs.define(eq=False)
class Forgetful:
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

    def keep(self, record: bytes) -> Result[None]:
        """Replace the record."""
        self.record = record
        return None

    def kept(self) -> bytes:
        """Return the record."""
        return self.record
