# SPDX-License-Identifier: MIT
"""
Calls that do not end: who is at what, since when.

Nothing is noted when a command or a call begins.  Somebody looks now and then instead:
at the tasks of every device, whatever its store is made of, and at the calls that
threads are in (`scstd.blocking.standing`).  What is still there after `SLOW` seconds
gets a line in the log, one for each device; further ones come rarely, and one when all
of that has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import attrs
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from scstd.blocking import Standing, standing
from scstd.management.monitor.trace import command
from scstd.scsi.sam import Task
from scstd.scsi.unit import LogicalUnit

_log = Logger()

LOOK = 1.0
"""Seconds between two looks."""

SLOW = 5.0
"""Seconds after which a call is named."""

_AGAIN = (60.0, 600.0)
"""Seconds after which it is named again, the second time and each further one."""


def at_work(reactor: Any, unit: LogicalUnit) -> str:
    """
    Return what the store of a unit is at, for people: the oldest command, and the
    oldest call of its threads.
    """
    tasks = [task for task in unit.tasks() if task.started]
    calls = [one for one in standing(reactor, 0.0) if one.store == unit.name]
    said = list(_tasks(tasks)) + [_call(one) for one in calls[:1]]
    return "; ".join(said) or "its store"


def _tasks(tasks: list[Task]) -> Iterator[str]:
    if tasks:
        task = tasks[0]
        more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
        shift = task.itl.unit.block_shift
        where = ""
        if task.row is not None and task.row.extent is not None:
            where = f" (offset {task.lba << shift}, {task.blocks << shift} bytes)"
        yield f"{command(task)}{where}{more}"


def _call(one: Standing) -> str:
    name = getattr(one.function, "__qualname__", repr(one.function))
    said = ", ".join(map(_argument, one.args))
    return f"thread of {one.lane!r} in {name}({said}) for {one.seconds:.1f} s"


def _argument(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"{len(value)} bytes"
    if isinstance(value, (int, str)):
        return repr(value)[:80]
    return type(value).__name__


@attrs.define(eq=False)
class _Episode:
    """
    What does not end, of one device or lane.
    """

    since: float
    again: float
    times: int = 0


@attrs.define(eq=False)
class StallWatch:
    """
    Looks every second from `start` until `stop`; *units* returns the units there are
    with the word of the handler of each.
    """

    reactor: Any
    units: Callable[[], Iterable[tuple[LogicalUnit, str]]]
    _seen: dict[Task, float] = attrs.field(factory=dict)
    _episodes: dict[str, _Episode] = attrs.field(factory=dict)
    _looking: LoopingCall = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._looking = LoopingCall(self.look)
        self._looking.clock = self.reactor

    def start(self) -> None:
        """
        Look from now on.
        """
        if not self._looking.running:
            self._looking.start(LOOK)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._looking.running:
            self._looking.stop()

    def look(self) -> None:
        """
        Name what does not end, and what has ended after all.
        """
        now: float = self.reactor.seconds()
        handlers: dict[str, str] = {}
        slow: dict[str, list[Task]] = {}
        seen: dict[Task, float] = {}
        for unit, handler in self.units():
            handlers[unit.name] = handler
            for task in unit.tasks():
                if not task.started or task.abandon is not None:
                    continue
                since = seen[task] = self._seen.get(task, now)
                row = task.row
                patience = SLOW if row is None else max(SLOW, row.timeout)
                if now - since >= patience:
                    slow.setdefault(unit.name, []).append(task)
        self._seen = seen
        calls = _by_store(standing(self.reactor, SLOW))
        for name in {**slow, **calls}:
            self._named(name, slow.get(name, []), calls.get(name, []), handlers, now)
        for name in [one for one in self._episodes if one not in {**slow, **calls}]:
            episode = self._episodes.pop(name)
            _log.warn(
                "{name}: what did not end has ended, {seconds} s after it was there",
                name=name,
                seconds=round(now - episode.since),
            )

    def _named(
        self,
        name: str,
        tasks: list[Task],
        calls: list[Standing],
        handlers: Mapping[str, str],
        now: float,
    ) -> None:
        episode = self._episodes.get(name)
        if episode is None:
            since = min([now, *(self._seen[one] for one in tasks)])
            episode = self._episodes[name] = _Episode(since, now)
        if now < episode.again:
            return
        episode.again = now + _AGAIN[min(episode.times, 1)]
        episode.times += 1
        tasks.sort(key=lambda one: self._seen[one])
        said = list(_tasks(tasks)) + [_call(one) for one in calls[:1]]
        _log.warn(
            "{name} ({handler}): does not end, after {seconds} s: {what}",
            name=name,
            handler=handlers.get(name, "no device"),
            seconds=round(max([now - episode.since, *(one.seconds for one in calls)])),
            what="; ".join(said),
        )


def _by_store(calls: Iterable[Standing]) -> dict[str, list[Standing]]:
    found: dict[str, list[Standing]] = {}
    for one in calls:
        found.setdefault(one.store, []).append(one)
    return found
