# SPDX-License-Identifier: MIT
"""
Who is logged in at each worker, as the front has heard: when a worker ends by itself it
tells of nobody's end any more, and somebody has to.
"""

from __future__ import annotations

from typing import Any

import attrs

from scstd.management.monitor.events import Event, Hub

ENDED = "its worker has ended"


@attrs.define(eq=False)
class LoggedIn:
    """
    The sessions of all workers, each as the event has it that told of its beginning.
    """

    _there: dict[int, dict[tuple[Any, Any], Event]] = attrs.field(factory=dict)
    """By worker, then by target and number (tsih)."""

    def heard(self, worker: int, event: Event) -> None:
        """
        Take an event of a worker.
        """
        session = (event.fields.get("target"), event.fields.get("tsih"))
        if event.name == "SESSION_OPENED":
            self._there.setdefault(worker, {})[session] = event
        elif event.name == "SESSION_CLOSED":
            self._there.get(worker, {}).pop(session, None)

    def count(self, worker: int) -> int:
        """
        Return how many sessions a worker has.
        """
        return len(self._there.get(worker, ()))

    def lost(self, worker: int, hub: Hub) -> None:
        """
        Tell that the sessions of a worker are over, for it has ended.
        """
        for opened in self._there.pop(worker, {}).values():
            over = {
                "reason": ENDED,
                # Only the worker has counted them.
                "commands": None,
                "seconds": round(max(hub.clock() - opened.time, 0.0), 3),
            }
            hub.publish("SESSION_CLOSED", **{**opened.fields, **over})
