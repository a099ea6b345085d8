# SPDX-License-Identifier: MIT
"""
Events: what happens at the target, told to who subscribes (SCST: scst_event).

There is one `Hub`.  The SCSI core and the target drivers are given its `publish` to
call (`scstd.scsi.reporting`), and know nothing of who listens.  A subscriber has a
queue of its own; one that is too slow loses events, and is told how many.  Nothing is
kept for who is not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import attrs

from scstd.attributes import ConfigurationError, unknown

MOST_QUEUED = 2048
"""Events that wait for one subscriber, as SCST has it."""

_MOST_NAMES, _LONGEST_NAME = 100, 100
"""Names and patterns of one subscriber: each event is compared with all of them."""

EVENTS: Mapping[str, str] = {
    # SCST's.
    "LUN_NOT_FOUND": "A command came for a LUN that its initiator does not have.",
    "NEGATIVE_LUNS_INQUIRY": "An initiator for whom a target has no LUNs asked for it.",
    "EXT_BLOCKING_DONE": "A device that was to be blocked (block) is quiet.",
    "TM_FN_RECEIVED": "An initiator asked for a task management function.",
    "STPG_USER_INVOKE": "An initiator changes an access state.",
    "REG_VIRT_DEV": "A device was opened.",
    # Ours.
    "TM_FN_DONE": "A task management function was answered.",
    "SESSION_OPENED": "An initiator has logged in.",
    "SESSION_CLOSED": "A session is over.",
    "CONNECTION_CLOSED": "A connection is over; its session has others.",
    "CONNECTION_REFUSED": "Somebody connected, and was not let in as far as to log in.",
    "LOGIN_REFUSED": "A login was refused, or took too long.",
    "DIGEST_FAILED": "Data came that was damaged on its way.",
    "IO_ERROR": "A command failed at the device's medium.",
    "DEVICE_CLOSED": "A device was closed.",
    "DEVICE_MISSING": "A device is there without what it is made of.",
    "DEVICE_OPENED": "What it is made of has come.",
    "CAPACITY_CHANGED": "A device has another size.",
    "MEDIUM_CHANGED": "A drive has another medium, or none (0 blocks).",
    "SOFT_THRESHOLD_REACHED": "The space of a thin device runs out.",
    "ACTIVITY_SUSPENDED": "No command is under way at any device (suspend).",
    "ACTIVITY_RESUMED": "Commands go on.",
    "CONFIGURATION_APPLIED": "A configuration is the running one.",
    "CONFIGURATION_FAILED": "A configuration could not be applied.",
    "WORKER_STARTED": "A worker process serves its devices and targets.",
    "WORKER_DIED": "A worker process has ended by itself, and its sessions with it.",
}
"""The events there are; drivers of other packages may tell of more."""


@attrs.frozen
class Event:
    """
    Something that happened: *number* counts from 1, *time* is in seconds since 1970.
    """

    number: int
    time: float
    name: str
    fields: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """
        Return it for JSON.
        """
        return {
            "number": self.number,
            "time": round(self.time, 6),
            "event": self.name,
            **self.fields,
        }


@attrs.define(eq=False)
class Subscription:
    """
    What one subscriber has not taken yet, and how many events it has *lost*.

    *names* are names and patterns (``*``, ``?``); with none it hears of everything.
    """

    hub: Hub
    names: tuple[str, ...] = ()
    most: int = MOST_QUEUED
    lost: int = 0
    _queue: deque[Event] = attrs.field(factory=deque)
    _ready: Callable[[], None] | None = None

    def offer(self, event: Event) -> None:
        """
        Queue an event, if the subscriber wants to hear of it.
        """
        if self.names and not any(fnmatchcase(event.name, one) for one in self.names):
            return
        if len(self._queue) >= self.most:
            self.lost += 1
            return
        self._queue.append(event)
        ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def take(self, most: int) -> tuple[list[Event], int]:
        """
        Return what is queued, at most so many events, and how many were lost after
        those.
        """
        count = min(most, len(self._queue))
        taken = [self._queue.popleft() for _number in range(count)]
        lost = 0
        if not self._queue:
            lost, self.lost = self.lost, 0
        return taken, lost

    def when_ready(self, call: Callable[[], None] | None) -> None:
        """
        Call something once, when there is an event to take; or, with None, nothing.
        """
        if call is not None and (self._queue or self.lost):
            call()
        else:
            self._ready = call

    def end(self) -> None:
        """
        Hear of nothing any more.
        """
        self.hub.subscriptions.pop(self, None)
        self._queue.clear()
        self._ready = None


@attrs.define(eq=False)
class Hub:
    """
    Takes events and hands them to those who want them.

    *clock* returns seconds since 1970.  *listeners* are called at once: the trace.
    """

    clock: Callable[[], float]
    listeners: list[Callable[[Event], None]] = attrs.field(factory=list)
    subscriptions: dict[Subscription, None] = attrs.field(factory=dict)
    _last: int = 0

    def publish(self, name: str, /, **fields: Any) -> None:
        """
        Tell everybody of an event (`scstd.scsi.reporting.Report`).
        """
        self._last += 1
        if self.listeners or self.subscriptions:
            self._tell(Event(self._last, self.clock(), name, fields))

    def relay(self, event: Event) -> None:
        """
        Tell everybody of an event of another process's hub: one of ours from now on.
        """
        self._last += 1
        self._tell(attrs.evolve(event, number=self._last))

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
        for subscription in list(self.subscriptions):
            subscription.offer(event)

    def subscribe(
        self, names: Iterable[str] = (), most: int = MOST_QUEUED
    ) -> Subscription:
        """
        Return a subscription to events of these names.

        :raises ConfigurationError: there is none of a name, or of a pattern.
        """
        wanted = tuple(names)
        if len(wanted) > _MOST_NAMES:
            raise ConfigurationError(f"expected at most {_MOST_NAMES} names of events")
        for one in wanted:
            if len(one) > _LONGEST_NAME:
                raise ConfigurationError(
                    f"expected names of events of at most {_LONGEST_NAME} characters"
                )
            if not any(fnmatchcase(name, one) for name in EVENTS):
                raise ConfigurationError(unknown("event", one, EVENTS))
        made = Subscription(self, wanted, most)
        self.subscriptions[made] = None
        return made
