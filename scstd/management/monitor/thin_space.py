# SPDX-License-Identifier: MIT
"""
Watching the space that thin devices allocate from.

A device with a soft threshold (`tp_soft_threshold`, percent) has its store asked now
and then how full the file system is.  When that passes the threshold every initiator is
told, once, with THIN PROVISIONING SOFT THRESHOLD REACHED; and again only after it was
below.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from scstd.block.checked import StoreFault
from scstd.results import settled
from scstd.scsi.device import soft_threshold_reached
from scstd.scsi.unit import LogicalUnit

_log = Logger()

INTERVAL = 10.0
"""Seconds between two looks."""


@attrs.define(eq=False)
class _Watched:
    percent: int
    loop: LoopingCall
    reached: bool = False


@attrs.define(eq=False)
class SpaceWatch:
    """
    The devices that have a threshold.
    """

    clock: Any
    _watched: dict[LogicalUnit, _Watched] = attrs.field(factory=dict)

    def watch(self, unit: LogicalUnit, percent: int | None) -> None:
        """
        Look after a unit's space, if it has a threshold and its store knows.
        """
        if percent is None:
            return
        if unit.volume.can.space is None:
            _log.warn("{unit}: tp_soft_threshold: no file system", unit=unit.name)
            return
        loop = LoopingCall(self._look, unit)
        loop.clock = self.clock
        self._watched[unit] = _Watched(percent, loop)
        loop.start(INTERVAL)

    def forget(self, unit: LogicalUnit) -> None:
        """
        Look after it no more.
        """
        watched = self._watched.pop(unit, None)
        if watched is not None and watched.loop.running:
            watched.loop.stop()

    def _look(self, unit: LogicalUnit) -> Deferred[None]:
        return Deferred.fromCoroutine(self._ask(unit))

    async def _ask(self, unit: LogicalUnit) -> None:
        try:
            used, total = await settled(unit.volume.ask_space())
        except OSError as error:
            _log.warn("{unit}: space: {error}", unit=unit.name, error=error)
            return
        except StoreFault:
            return  # it is in the log; the next look may be better
        watched = self._watched.get(unit)
        if watched is None:
            return
        full = used * 100 >= watched.percent * total
        if full and not watched.reached:
            _log.warn(
                "{unit}: {percent} % of its file system is in use",
                unit=unit.name,
                percent=used * 100 // max(total, 1),
            )
            soft_threshold_reached(unit)
        watched.reached = full
