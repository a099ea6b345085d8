# SPDX-License-Identifier: MIT
"""
The backup of what a device remembers: what to believe when its file is damaged or gone.

Identity, mode pages, an operation that was interrupted: all that may come from a
backup, for it is written with the file and is at most one change older.  Persistent
reservations may not: a reservation of yesterday fences whom it should not, and none at
all lets in whom a cluster has fenced.  So the backup does not have them, but it has
whether there are any, written before the first and after the last.  If there were none,
the device is opened from its backup; if there were, a person has to say so.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from scstd.block.remembered import MEDIUM, OPERATION, Job
from scstd.management.state.durable import DamagedError, look, path_of, put_aside

_log = Logger()

GUARDED = "persistent"
"""The entry that a backup does not have."""

FLAG = "had_reservations"
"""What it has instead."""


_TEST = (
    range(8),
    range(16),
    range(1 << 32),
    range(-1, 1 << 64),
    range(16),
    range(1 << 16),
)
"""Values of a self-test, as `scstd.scsi.selftest.SelfTest` has them."""


def _tests(rows: Any) -> bool:
    return isinstance(rows, list) and all(
        type(one) is int and one in possible
        for row in rows
        for one, possible in zip(row, _TEST, strict=True)
    )


ENTRIES: Mapping[str, Callable[[Any], Any]] = {
    "uuid": uuid.UUID,
    "origin": lambda value: isinstance(value, str),
    "modes": lambda value: all(isinstance(one, int) for one in value.values()),
    "identifying": lambda value: [bytes.fromhex(one) for one in value.values()] or True,
    "self_tests": _tests,
    MEDIUM: lambda value: value is None or isinstance(value, str),
    OPERATION: lambda value: value is None or (Job.of(value), value["failed"]),
}
"""What is wrong with an entry: its row is not true of it, or raises."""


def copy_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what the backup of these values has.
    """
    kept = {name: value for name, value in values.items() if name != GUARDED}
    return {**kept, FLAG: bool(values.get(GUARDED))}


def load(file: Path) -> tuple[dict[str, Any], bytes]:
    """
    Return what a device remembers, and what is in its backup.

    A file that is damaged is put aside (``.damaged``), and made again from the backup.

    :raises DamagedError: that cannot be done; the text says what a person can do.
    :raises PermissionError: a file must not be read.
    """
    copy, kept, copy_fault = look(path_of(file), _parse)
    _data, values, fault = look(file, _parse)
    if values is not None:
        # A file without an identity is believed only if there never was one.
        if "uuid" in values or kept is None or "uuid" not in kept:
            values.pop(FLAG, None)
            return values, copy
        fault = 'its entry "uuid" is missing'
    if not fault and kept is None and not copy_fault:
        return {}, b""
    why = fault or "it is missing"
    if kept is None:
        raise DamagedError(
            f"{why}, and there is no good backup: correct it, or remove it and"
            f" {path_of(file).name}, and the device is a new disk"
        )
    if kept.pop(FLAG, True):
        raise DamagedError(
            f"{why}, and persistent reservations were in it: who is fenced is not"
            f" known. Correct it, or copy {path_of(file).name} to it to go on without"
            " them"
        )
    aside = f" (the file is {put_aside(file, why).name} now)" if fault else ""
    _log.warn(
        "{file}: {why}: what the device remembers is from its backup{aside}",
        file=str(file),
        why=why,
        aside=aside,
    )
    return kept, b""


def _parse(data: bytes) -> dict[str, Any]:
    """
    Return the values in a file.

    :raises ValueError: there is something else.
    """
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - as all else here
    for name, right in ENTRIES.items():
        if name not in values:
            continue
        try:
            good = right(values[name])
        except (KeyError, TypeError, ValueError, AttributeError):
            good = False
        if not good:
            raise ValueError(f'its entry "{name}" is malformed')
    return values
