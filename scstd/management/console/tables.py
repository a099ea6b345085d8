# SPDX-License-Identifier: MIT
"""
What the console shows of live objects: lists that print as tables, and for how long
commands have been under way.

A task does not know when it began, for that would cost every command something.  Here
somebody looks once a second instead, where there is a console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
from twisted.internet.task import LoopingCall
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from scstd.management.monitor.events import Hub, Subscription
from scstd.management.monitor.trace import NAMESPACE
from scstd.management.system import System
from scstd.scsi.sam import Task


class Rows(list[Any]):
    """
    A list of objects that prints as a table: a line each, its number in the list first.
    """

    def __init__(
        self,
        objects: Iterable[Any],
        header: Sequence[str],
        row: Callable[[Any], Sequence[object]],
    ) -> None:
        super().__init__(objects)
        self._header = header
        self._row = row

    def __repr__(self) -> str:
        """Return the table as it is now."""
        lines = [("", *self._header)]
        lines += [
            (str(at), *("-" if cell in {None, ""} else str(cell) for cell in row))
            for at, row in enumerate(map(self._row, self))
        ]
        if len(lines) == 1:
            return "none"
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) for cell, width in zip(line, widths, strict=True)
            ).rstrip()
            for line in lines
        )


class Values(dict[str, str]):
    """
    Texts by name, that print as a table.
    """

    def __repr__(self) -> str:
        """Return a line for each; of a text of several lines, below each other."""
        width = max(map(len, self), default=0)
        gap = "\n" + " " * (width + 2)
        return "\n".join(
            f"{name.ljust(width)}  {gap.join(text.splitlines())}".rstrip()
            for name, text in self.items()
        )


@attrs.define(eq=False)
class Live:
    """
    Events, and the lines of the trace, shown as they come, from `start` until `end`;
    *over* says that what was begun before is to end instead.
    """

    reactor: Any
    hub: Hub
    names: tuple[str, ...] = ()
    over: bool = False
    _write: Callable[[str], None] | None = None
    _subscription: Subscription | None = None
    _hear: Any = attrs.field(
        default=attrs.Factory(lambda self: self._traced, takes_self=True), init=False
    )

    def start(self, write: Callable[[str], None]) -> None:
        """
        Have *write* called with each line.

        :raises ConfigurationError: there is no event of a name.
        """
        self._subscription = self.hub.subscribe(self.names)
        self._write = write
        globalLogPublisher.addObserver(self._hear)
        self._subscription.when_ready(self._later)

    def _later(self) -> None:
        # Whoever tells of an event has nothing to do with who looks at it.
        self.reactor.callLater(0, self._take)

    def _take(self) -> None:
        if self._subscription is None:
            return
        events, lost = self._subscription.take(100)
        for event in events:
            fields = " ".join(f"{name}={one}" for name, one in event.fields.items())
            self._line(f"{event.name} {fields}")
        if lost:
            self._line(f"({lost} events were lost)")
        self._subscription.when_ready(self._later)

    def _traced(self, event: LogEvent) -> None:
        if event.get("log_namespace") == NAMESPACE and not event.get("event"):
            self._line(formatEvent(event))

    def _line(self, text: str) -> None:
        # Names come from initiators, and terminals obey what is not printable.
        shown = "".join(one if one.isprintable() else "?" for one in text)
        if self._write is not None:
            self._write(shown)

    def end(self) -> None:
        """
        Show nothing any more.
        """
        if self._subscription is not None:
            self._subscription.end()
            self._subscription = self._write = None
            globalLogPublisher.removeObserver(self._hear)


@attrs.define(eq=False)
class TaskWatch:
    """
    Knows how long the tasks of a system have been seen.
    """

    system: System
    _seen: dict[Task, float] = attrs.field(factory=dict)
    _looking: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._looking = LoopingCall(self.look)
        self._looking.clock = self.system.reactor

    def start(self) -> None:
        """
        Look every second from now on.
        """
        self._looking.start(1.0)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._looking.running:
            self._looking.stop()

    def look(self) -> list[Task]:
        """
        Return the tasks that are under way now, oldest first of each device.
        """
        now = self.system.reactor.seconds()
        tasks = [
            task
            for device in self.system.devices.values()
            for task in device.unit.tasks()
        ]
        self._seen = {task: self._seen.get(task, now) for task in tasks}
        return tasks

    def seconds(self, task: Task) -> float:
        """
        Return for how long a task has been seen: up to a second less than it is there.
        """
        now: float = self.system.reactor.seconds()
        return now - self._seen.get(task, now)


def state_of(task: Task) -> str:
    """
    Return what a task is at.
    """
    if task.aborted:
        return "aborted"
    if task.started:
        return "running"
    return "waiting" if task.ready else "data-out"
