# SPDX-License-Identifier: MIT
"""
Where the name of somebody's file leads to, with its links resolved, asked for no longer
than a moment: the file system in which it is may hang, and so would whoever asks.
"""

from __future__ import annotations

import os
import threading
from time import monotonic

from twisted.logger import Logger

_log = Logger()

_MOMENT = 2.0
"""Seconds that an answer is waited for."""

_QUIET = 30.0
"""Seconds for which files in a directory that gave none are not asked about again."""

_silent: dict[str, float] = {}


def real_path(path: str) -> str:
    """
    Return the real path of a file, or, where its file system does not answer, the
    absolute path as it stands; this may take a moment.
    """
    plain = os.path.abspath(path)  # noqa: PTH100 - it asks no file system
    if silent(path):
        return plain
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(os.path.realpath(path)), daemon=True
    )
    try:
        thread.start()
    except RuntimeError:
        # No thread is to be had: then as it was always done.
        return os.path.realpath(path)
    thread.join(_MOMENT)
    if found:
        return found[0]
    note_silent(path)
    _log.warn("{path}: its file system does not answer", path=path)
    return plain


def silent(path: str) -> bool:
    """
    Say whether files beside this one gave no answer lately.
    """
    return monotonic() < _silent.get(_directory(path), 0.0)


def note_silent(path: str) -> None:
    """
    Remember for a while that a file gave no answer.
    """
    _silent[_directory(path)] = monotonic() + _QUIET


def _directory(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120
