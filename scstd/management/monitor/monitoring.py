# SPDX-License-Identifier: MIT
"""
Who looks at commands, who holds them, and what that has found out.

`Watching` puts the stages of trace and latency figures (SCST: trace_level,
measure_latency) on the units of the system: nobody looks at a command while both are
off.  It has the holds too (SCST: suspend, and a device's block).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList

from scstd.management.errors import TreeError
from scstd.management.monitor.counters import SessionCounters
from scstd.management.monitor.events import Hub
from scstd.management.monitor.latency import Latency
from scstd.management.monitor.trace import COMMANDS, Trace
from scstd.scsi.holds import Holds
from scstd.scsi.unit import LogicalUnit


@attrs.define(eq=False)
class Watching:
    """
    *units* returns every logical unit there is, with those for LUNs that are not there;
    *disks* those of devices.
    """

    reactor: Any
    events: Hub
    units: Callable[[], Iterable[LogicalUnit]]
    disks: Callable[[], Iterable[LogicalUnit]]
    trace: Trace = attrs.field(factory=Trace)
    latency: Latency = attrs.field(factory=Latency)
    holds: Holds = attrs.field(factory=Holds)
    counters: SessionCounters = attrs.field(factory=SessionCounters)
    measure: bool = False
    suspended: bool = False

    def __attrs_post_init__(self) -> None:
        self.events.listeners.append(self.trace.heard)

    # Looking.

    def set_level(self, level: int) -> None:
        """
        Trace something else from now on.
        """
        self.trace.level = level
        self.added(*self.units())

    def set_measure(self, measure: bool) -> None:
        """
        Measure latencies, from nothing, or stop to; what was measured is forgotten.
        """
        self.measure = measure
        self.latency.forget()
        self.added(*self.units())

    def added(self, *units: LogicalUnit) -> None:
        """
        Have those look at commands who are to, at units that are new as well.
        """
        for stage, wanted in (
            (self.trace, bool(self.trace.level & COMMANDS)),
            (self.latency, self.measure),
        ):
            for unit in units:
                if wanted:
                    unit.pipeline.add(stage)
                else:
                    unit.pipeline.remove(stage)

    # Holding.

    def _quiet(self, units: Iterable[LogicalUnit], name: str) -> Deferred[Any]:
        return DeferredList([self.holds.hold(unit, name) for unit in units])

    async def suspend(self, seconds: float) -> None:
        """
        Start no further command at any device, and wait until none is under way: for so
        many seconds, or with 0 as long as it takes; with a negative number go on.

        :raises TreeError: it takes longer (ETIMEDOUT), and everything goes on.
        """
        if seconds < 0:
            if self.suspended:
                self._resume()
            return
        self.suspended = True
        quiet = self._quiet(self.disks(), "suspend")
        if not seconds or quiet.called:
            await quiet
        elif not await self._within(quiet, seconds):
            if self.suspended:
                self._resume()
            raise TreeError(
                errno.ETIMEDOUT,
                f"commands are still under way after {seconds:g} s: they go on",
            )
        if self.suspended:
            self.events.publish("ACTIVITY_SUSPENDED")

    def _resume(self) -> None:
        self.suspended = False
        for unit in list(self.disks()):
            self.holds.release(unit, "suspend")
        self.events.publish("ACTIVITY_RESUMED")

    def _within(self, quiet: Deferred[Any], seconds: float) -> Deferred[bool]:
        """
        Fire with whether something comes in time.
        """
        done: Deferred[bool] = Deferred()
        late = self.reactor.callLater(seconds, lambda: done.callback(False))

        def came(_result: Any) -> None:
            if late.active():
                late.cancel()
                done.callback(True)

        quiet.addCallback(came)
        return done

    def hold_new(self, unit: LogicalUnit) -> None:
        """
        Hold a device that is opened while activity is suspended.
        """
        if self.suspended:
            self.holds.hold(unit, "suspend")

    def block(self, unit: LogicalUnit, text: str) -> Deferred[None] | None:
        """
        Do what a device's ``block`` asks for: 1, start no further command and wait
        until none is under way; 11 and a word, the same without waiting: the event
        EXT_BLOCKING_DONE has the word; 0, go on.

        :raises TreeError: something else is asked for.
        """
        verb, _blank, word = text.strip().partition(" ")
        if verb == "0":
            self.holds.release(unit, "block")
            return None
        if verb not in {"1", "11"}:
            raise TreeError(errno.EINVAL, f"{text!r}: expected 0, 1 or 11 WORD")
        quiet = self.holds.hold(unit, "block")

        def done(_result: None) -> None:
            if "block" in self.holds.by(unit):
                self.events.publish(
                    "EXT_BLOCKING_DONE", device=unit.name, data=word.strip()
                )

        quiet.addCallback(done)
        return quiet if verb == "1" else None

    def check_going(self, unit: LogicalUnit) -> None:
        """
        :raises TreeError: a unit is held (EBUSY): its commands would never end.
        """
        if self.holds.by(unit):
            raise TreeError(
                errno.EBUSY, f"commands of {unit.name} are held (suspend, block)"
            )

    def removed(self, unit: LogicalUnit) -> None:
        """
        Know a device no more that is closed: it may have been held while it went.
        """
        for name in self.holds.by(unit):
            self.holds.release(unit, name)

    def let_go(self) -> None:
        """
        Hold nothing any more: it all ends.
        """
        self.suspended = False
        for unit in self.disks():
            self.removed(unit)
