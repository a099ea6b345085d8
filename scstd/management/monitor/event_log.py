# SPDX-License-Identifier: MIT
"""
What is written in the log of events: who came and left and why, what an initiator asked
for and has not, what went wrong on a medium, for whom and where.

A line an event, by the table here.  Whoever does the same again and again (an initiator
that is refused every second, a disk that fails every read) fills no log: of what is
alike in the fields of its row, five lines are written at once, and then one for all
that came in a period, with their number.  Periods grow from ten seconds to ten minutes
for as long as it goes on, and begin anew when one was quiet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.logger import Logger, LogLevel

from scstd.management.monitor.events import Event
from scstd.printable import printable

_log = Logger("scstd.events")

BURST = 5
"""Lines of one kind that are written at once in a period."""

PERIOD, LONGEST = 10.0, 600.0
"""Seconds of the first period, and of the longest."""

MOST_KINDS = 1000
"""Kinds that are told apart; with more the events of a name are of one kind."""


@attrs.frozen
class Line:
    """
    How an event is written; *alike* are the fields in which a flood is the same.
    """

    level: Any
    form: str
    alike: tuple[str, ...]


_WHO = ("initiator", "target")

LINES: Mapping[str, Line] = {
    "SESSION_OPENED": Line(
        LogLevel.info,
        "{initiator} logged in to {target} from {peer} at {portal}, session {tsih}",
        _WHO,
    ),
    "SESSION_CLOSED": Line(
        LogLevel.info,
        "{initiator} left {target}, session {tsih} from {peer}: {reason}"
        " ({commands} commands in {seconds:.0f} s)",
        _WHO,
    ),
    "CONNECTION_CLOSED": Line(
        LogLevel.info,
        "{initiator}, session {tsih} with {target}: its connection {cid} from {peer} is"
        " over, {left} are left: {reason}",
        _WHO,
    ),
    "LOGIN_REFUSED": Line(
        LogLevel.warn,
        "login refused, status {status}: {reason} ({initiator} from {peer} to {target}"
        " at {portal})",
        ("host", "initiator", "status"),
    ),
    "CONNECTION_REFUSED": Line(
        LogLevel.warn, "connection from {peer} refused: {reason}", ("host",)
    ),
    "LUN_NOT_FOUND": Line(
        LogLevel.info,
        "{initiator} asked {target} for LUN {lun}, which is not there for it",
        _WHO,
    ),
    "DIGEST_FAILED": Line(
        LogLevel.warn,
        "{initiator}, session {tsih} with {target}: wrong data digests from {peer},"
        " {count} PDUs were not taken",
        _WHO,
    ),
    "IO_ERROR": Line(
        LogLevel.warn,
        "device {device}: {command}, LBA {lba}, {blocks} blocks: {error}"
        " (sense {sense}; {initiator}, LUN {lun} of {target})",
        ("device", "command", "error"),
    ),
    "WORKER_STARTED": Line(
        LogLevel.info,
        "worker {worker} serves, process {pid}",
        ("worker",),
    ),
    "WORKER_DIED": Line(
        LogLevel.error,
        "worker {worker}, process {pid}, is gone, and its sessions with it: {reason}",
        ("worker",),
    ),
}
"""The events that have a line.  The rest is for who subscribes, and for the trace."""


@attrs.define(eq=False)
class Flood:
    """
    Events of one kind: those of a period that began at *since*, and *held* the number
    of those that were not written.
    """

    since: float
    period: float = PERIOD
    seen: int = 0
    held: int = 0
    last: Callable[[int, float], None] = lambda _count, _seconds: None
    end: Any = None


@attrs.define(eq=False)
class Limiter:
    """
    Lets some of what is alike pass, and says how many the others were.
    """

    clock: Any
    floods: dict[tuple[Any, ...], Flood] = attrs.field(factory=dict)
    closed: bool = False
    _none_before: float = 0.0
    """Until when none of the kinds there are can be forgotten."""

    def offer(self, kind: tuple[Any, ...], say: Callable[[int, float], None]) -> None:
        """
        Call *say*, now with 0, or later with how many of a *kind* there were in how
        many seconds: then it is that of the last of them.
        """
        if self.closed:
            say(0, 0.0)
            return
        now = self.clock.seconds()
        flood = self.floods.get(kind)
        if flood is None or (flood.end is None and now - flood.since >= flood.period):
            if flood is None and len(self.floods) >= MOST_KINDS:
                self._forget(now)
                if len(self.floods) >= MOST_KINDS:
                    kind = kind[:1]
            flood = self.floods[kind] = self.floods.get(kind) or Flood(now)
            if flood.end is None and now - flood.since >= flood.period:
                flood = self.floods[kind] = Flood(now)
        flood.seen += 1
        if flood.seen <= BURST:
            say(0, 0.0)
            return
        flood.held += 1
        flood.last = say
        if flood.end is None:
            left = max(flood.since + flood.period - now, 0.0)
            flood.end = self.clock.callLater(left, self._period_over, kind)

    def _forget(self, now: float) -> None:
        """
        Forget kinds that were quiet; the look at all of them is not made in vain.
        """
        if now < self._none_before:
            return
        # One that is under way now begins a period when it is over.
        self._none_before = now + PERIOD
        for kind, flood in list(self.floods.items()):
            if flood.end is not None:
                continue
            if now - flood.since >= flood.period:
                del self.floods[kind]
            else:
                over = flood.since + flood.period
                self._none_before = min(self._none_before, over)

    def _period_over(self, kind: tuple[Any, ...]) -> None:
        flood = self.floods[kind]
        now = self.clock.seconds()
        flood.last(flood.held, now - flood.since)
        flood.end, flood.held, flood.since = None, 0, now
        flood.period = min(2 * flood.period, LONGEST)

    def close(self) -> None:
        """
        Say what is not said yet: there is no later.
        """
        self.closed = True
        now = self.clock.seconds()
        for flood in self.floods.values():
            if flood.end is not None:
                flood.end.cancel()
                flood.end = None
                flood.last(flood.held, now - flood.since)
        self.floods.clear()


@attrs.define(eq=False)
class Chronicle:
    """
    Writes events in the log.
    """

    clock: Any
    limiter: Limiter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.limiter = Limiter(self.clock)

    def heard(self, event: Event) -> None:
        """
        Take an event.
        """
        line = LINES.get(event.name)
        if line is None:
            return
        fields = {name: _said(value) for name, value in event.fields.items()}
        kind = (event.name, *(_alike(name, fields) for name in line.alike))

        def say(count: int, seconds: float) -> None:
            form, more = line.form, {}
            if count:
                form += " [the last of {alike} like it in {within} s]"
                more = {"alike": count, "within": round(seconds)}
            _log.emit(line.level, form, event=event.name, **fields, **more)

        self.limiter.offer(kind, say)

    def close(self) -> None:
        """
        Write what was held.
        """
        self.limiter.close()


def _said(value: Any) -> Any:
    if value is None:
        return "-"
    return printable(value) if isinstance(value, str) else value


def _alike(name: str, fields: Mapping[str, Any]) -> Any:
    if name == "host":
        # Each connection has another port.
        return str(fields.get("peer", "")).rpartition(":")[0]
    return fields.get(name)
