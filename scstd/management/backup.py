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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.logger import Logger

_log = Logger()

SUFFIX = ".backup"

GUARDED = "persistent"
"""The entry that a backup does not have."""

FLAG = "had_reservations"
"""What it has instead."""


class DamagedError(Exception):
    """
    A file cannot be believed, and nothing can take its place.
    """


def path_of(file: Path) -> Path:
    """
    Return where the backup of a file is.
    """
    return file.with_suffix(SUFFIX)


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
    :raises OSError: a file cannot be read.
    """
    copy, kept, copy_fault = _read(path_of(file))
    _data, values, fault = _read(file)
    if values is not None:
        # A file without an identity is believed only if there never was one.
        if _named(values) or kept is None or not _named(kept):
            values.pop(FLAG, None)
            return values, copy
        fault = 'its entry "uuid" is missing or malformed'
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
    if fault:
        file.replace(file.with_suffix(".damaged"))
    _log.warn(
        "{file}: {why}: what the device remembers is from its backup{aside}",
        file=str(file),
        why=why,
        aside=f" (the file is {file.stem}.damaged now)" if fault else "",
    )
    return kept, b""


def _read(path: Path) -> tuple[bytes, dict[str, Any] | None, str]:
    """
    Return the bytes of a file, the values in it, and what is wrong with it.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b"", None, ""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        return data, None, f"{error}"
    if not isinstance(values, dict):
        return data, None, "expected a JSON object"
    return data, values, ""


def _named(values: Mapping[str, Any]) -> bool:
    """
    Say whether there is an identity in what is kept.
    """
    try:
        uuid.UUID(values["uuid"])
    except (KeyError, ValueError, AttributeError, TypeError):
        return False
    return True
