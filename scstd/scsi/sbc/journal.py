# SPDX-License-Identifier: MIT
"""
What makes an atomic write whole over a crash (SBC-4 section 4.29, atomic operations).

A store promises nothing about a write that the end of the process, or of the power,
interrupts.  So its blocks are kept first (`scstd.scsi.memory.Memory.keep`), then
written through to the medium, then let go, each step durably before the next.  What is
kept when the device is opened again is written before anybody can read it: all is
there, or nothing.  One write is under way at a time, as there is one record.

A unit that has no durable memory (a store in RAM, say) loses everything with the
process; its atomic writes are atomic among commands only, and cost no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from struct import Struct

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.interfaces import Buffer
from scstd.scsi.command import Allow
from scstd.scsi.conditions import Operation
from scstd.scsi.sbc.steps import settled
from scstd.scsi.sense import ASC
from scstd.scsi.turns import Turns
from scstd.scsi.unit import LogicalUnit

_log = Logger()

_OFFSET = Struct(">Q")


@attrs.define(eq=False)
class Journal:
    """
    The atomic write under way on one logical unit.
    """

    unit: LogicalUnit
    _turns: Turns = attrs.field(factory=Turns)

    async def around(
        self, offset: int, data: Buffer, write: Callable[[], Awaitable[None]]
    ) -> None:
        """
        Keep *data*, have *write* write it through to *offset*, and let it go.
        """
        memory = self.unit.memory
        await self._turns.acquire()
        try:
            await settled(memory.keep(_OFFSET.pack(offset) + data))
            try:
                await write()
            finally:
                # Also when it has failed: nothing must write it later.
                await self._let_go()
        finally:
            self._turns.release()

    async def _let_go(self) -> None:
        unit = self.unit
        try:
            await settled(unit.memory.keep(b""))
        except OSError as error:
            # The next start would write it, over what was written since: so nothing is.
            _log.error(
                "{unit}: an atomic write cannot be let go, and nothing is written any"
                " more: {error}",
                unit=unit.name,
                error=error,
            )
            unit.impose(Operation(ASC.MANUAL_INTERVENTION_REQUIRED, Allow.NO_MEDIUM))
            raise


def recover(unit: LogicalUnit) -> None:
    """
    Finish the write that a unit, which is being opened, was not seen to finish.
    """
    record = unit.memory.kept()
    if record:
        condition = Operation(ASC.IN_PROCESS_OF_BECOMING_READY, Allow.NO_MEDIUM)
        unit.impose(condition)
        Deferred.fromCoroutine(_recover(unit, condition, record))


async def _recover(unit: LogicalUnit, condition: Operation, record: bytes) -> None:
    (offset,) = _OFFSET.unpack_from(record)
    try:
        await settled(unit.store.write(offset, record[_OFFSET.size :], True))
        await settled(unit.memory.keep(b""))
    except Exception:  # noqa: BLE001 - whatever it is, blocks are half written
        _log.failure("{unit}: an atomic write cannot be finished", unit=unit.name)
        condition.asc = ASC.MANUAL_INTERVENTION_REQUIRED
    else:
        _log.info("{unit}: finished an atomic write", unit=unit.name)
        unit.lift(condition)
