# SPDX-License-Identifier: MIT
"""
What is remembered of a volume's medium, and is gone on with on that medium alone.

Who a device is, what hosts have reserved and what modes are saved goes with its name,
whatever is behind it.  With the medium go a format or sanitize operation that is not
over or has failed (the entry `OPERATION`), and an atomic write that may be cut in two
(the record, `scstd.block.atomic_write`): on another medium they would destroy what
somebody has put there.  Whoever keeps them (`scstd.block.persistence.Persistence`)
keeps beside them of which medium they are (the entry `MEDIUM`, what `IMediumIdentity`
says), and does not show them on any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

OPERATION = "operation"
"""The entry that has a format or sanitize operation."""

MEDIUM = "medium"
"""The entry that says which medium it is of."""

OF_MEDIUM = (OPERATION,)
"""The entries that go with the medium; the record does, too."""

_BEGUN, _BEFORE = "begun", "before"
"""In what is remembered of one that is going to begin: that it has not, and what is so
until then."""


@attrs.frozen
class Job:
    """
    What is to be done: ``format``, ``overwrite`` or ``erase``; for overwriting how
    often (*count*) and with what, each pass with the inversion of the one before if
    *invert*.  *unrestricted* allows EXIT FAILURE MODE.
    """

    work: str
    pattern: bytes = b""
    count: int = 1
    invert: bool = False
    unrestricted: bool = False

    @property
    def sanitizes(self) -> bool:
        """Whether it is a sanitize operation, and no format."""
        return self.work != "format"

    def record(self, *, failed: bool) -> dict[str, Any]:
        """Return it as it is remembered."""
        fields = attrs.asdict(self)
        return {**fields, "pattern": self.pattern.hex(), "failed": failed}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Job:
        """Return what is remembered so."""
        fields = {one.name: record[one.name] for one in attrs.fields(cls)}
        return cls(**{**fields, "pattern": bytes.fromhex(record["pattern"])})


def pending(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Return what is remembered of an operation that is not over; nothing of one that was
    going to begin.
    """
    found: dict[str, Any] | None = values.get(OPERATION)
    while found is not None and found.get(_BEGUN) is False:
        found = found[_BEFORE]
    return found


def going_to_begin(record: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what is remembered, instead of *record*, of an operation that is going to
    begin: it means nothing, but that what was so before is.
    """
    return {**record, _BEGUN: False, _BEFORE: pending(values)}


def described(operation: Mapping[str, Any] | None, record: bytes) -> str:
    """
    Return what is pending of a medium, for a person.
    """
    found = []
    if operation is not None:
        kind = "sanitize" if Job.of(operation).sanitizes else "format"
        how = "that failed" if operation["failed"] else "under way"
        found.append(f"a {kind} operation {how}")
    if record:
        found.append(f"an atomic write of {len(record)} bytes")
    return " and ".join(found)
