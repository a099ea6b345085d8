# SPDX-License-Identifier: MIT
"""
The files of SCST's counters: a session's, and a target's for all its sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from scstd.interfaces import ITargetDriverInstance
from scstd.management.monitor.counters import COUNTERS, Counters
from scstd.management.tree.nodes import File


def of_session(
    counters: Counters, driver: ITargetDriverInstance, session: Any
) -> dict[str, File]:
    """
    Return a session's files; writing to one sets those of its direction to nothing.
    """

    def file(name: str) -> File:
        return File(
            lambda: str(counters.values(driver, session)[name]),
            lambda _text: counters.reset(driver, session, name),
        )

    return {name: file(name) for name in COUNTERS}


def of_sessions(
    counters: Counters,
    driver: ITargetDriverInstance,
    sessions: Callable[[], Iterable[Any]],
) -> dict[str, File]:
    """
    Return files of the sums over sessions.  There may be many: they are asked once,
    when the first of these files is read, which live as long as somebody looks.
    """

    @cache
    def sums() -> dict[str, int]:
        every = [counters.values(driver, session) for session in sessions()]
        return {name: sum(one[name] for one in every) for name in COUNTERS}

    def file(name: str) -> File:
        return File(lambda: str(sums()[name]))

    return {name: file(name) for name in COUNTERS}
