# SPDX-License-Identifier: MIT
"""
What makes an atomic write whole over a crash (SBC-4 section 4.29, atomic operations).

A store promises nothing about a write that the end of the process, or of the power,
interrupts.  So its blocks are remembered first, then written through to the medium,
then forgotten, each step durably before the next.  What is remembered when the device
is opened again is written before anybody can read it: all is there, or nothing.

A unit that has no durable memory (a store in RAM, say) loses everything with the
process; its atomic writes are atomic among commands only, and cost no more.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.interfaces import Buffer
from scstd.scsi.command import Allow
from scstd.scsi.conditions import Operation
from scstd.scsi.sbc.steps import settled
from scstd.scsi.sense import ASC
from scstd.scsi.unit import LogicalUnit

_log = Logger()

KEY = "atomic"
"""Under which a unit remembers the writes that are under way."""


@attrs.define(eq=False)
class Journal:
    """
    The atomic writes under way on one logical unit.
    """

    unit: LogicalUnit
    entries: dict[str, list[Any]] = attrs.field(factory=dict)
    _next: int = 0
    _durable: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._durable = isinstance(self.unit.remember(KEY, None), Deferred)

    async def enter(self, offset: int, data: Buffer) -> str:
        """
        Remember a write; return a name for it, empty if memory is not durable.
        """
        if not self._durable:
            return ""
        self._next += 1
        name = str(self._next)
        self.entries[name] = [offset, b64encode(data).decode()]
        try:
            await settled(self.unit.remember(KEY, dict(self.entries)))
        except BaseException:
            # It will not be written: nothing must write it later.
            await self.leave(name)
            raise
        return name

    async def leave(self, name: str) -> None:
        """
        Forget a write that is on the medium.
        """
        if name:
            del self.entries[name]
            await settled(self.unit.remember(KEY, dict(self.entries) or None))


def recover(unit: LogicalUnit) -> None:
    """
    Finish the writes that a unit, which is being opened, was not seen to finish.
    """
    entries = unit.memory.load().get(KEY)
    if entries:
        condition = Operation(ASC.IN_PROCESS_OF_BECOMING_READY, Allow.NO_MEDIUM)
        unit.impose(condition)
        Deferred.fromCoroutine(_recover(unit, condition, entries))


async def _recover(
    unit: LogicalUnit, condition: Operation, entries: dict[str, list[Any]]
) -> None:
    try:
        for offset, text in entries.values():
            await settled(unit.store.write(offset, b64decode(text), True))
        await settled(unit.remember(KEY, None))
    except Exception:  # noqa: BLE001 - whatever it is, blocks are half written
        _log.failure("{unit}: an atomic write cannot be finished", unit=unit.name)
        condition.asc = ASC.MANUAL_INTERVENTION_REQUIRED
    else:
        _log.info("{unit}: finished {count} writes", unit=unit.name, count=len(entries))
        unit.lift(condition)
