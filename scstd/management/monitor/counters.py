# SPDX-License-Identifier: MIT
"""
SCST's counters of commands and data, by the direction of the data: of a session, and of
a target for all its sessions that there are now.

Writing to one of a session's sets those of the same direction to nothing.  The session
itself goes on counting: here it is kept what they were then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from scstd.interfaces import ITargetDriverInstance

DIRECTIONS = ("unknown", "write", "read", "bidi", "none")

COUNTERS: Mapping[str, str] = {
    **{f"{way}_cmd_count": way for way in DIRECTIONS},
    **{f"{way}_io_count_kb": way for way in ("write", "read", "bidi")},
    **{f"{way}_unaligned_cmd_count": way for way in ("write", "read", "bidi")},
}
"""Names, and the direction of each: SCST's.  4096 bytes are what is aligned."""


@attrs.define(eq=False)
class SessionCounters:
    """
    Reads the counters of sessions, each from when it was set to nothing.
    """

    _since: WeakKeyDictionary[Any, dict[str, int]] = attrs.field(
        factory=WeakKeyDictionary
    )

    def values(self, driver: ITargetDriverInstance, session: Any) -> dict[str, int]:
        """
        Return what a session has counted; 0 where its driver does not count.
        """
        since = self._since.get(session, {})
        now = driver.report(session)
        return {name: int(now.get(name, 0)) - since.get(name, 0) for name in COUNTERS}

    def reset(self, driver: ITargetDriverInstance, session: Any, name: str) -> None:
        """
        Have the counters of a direction begin again.
        """
        now = driver.report(session)
        since = self._since.setdefault(session, {})
        for one, way in COUNTERS.items():
            if way == COUNTERS[name]:
                since[one] = int(now.get(one, 0))
