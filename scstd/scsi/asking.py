# SPDX-License-Identifier: MIT
"""
Telling a store who asks (`scstd.interfaces.asking`), if it wants to know.

A store that does has a command table whose rows set the asker while their function
runs, as `scstd.scsi.command.prioritized` sets the priority; all others have the rows
that there are.  Coroutines keep what was set when they began.  What goes on in a
callback is `carried` by whoever puts it there (range locks, turns, a flush before a
read), and what outlives its command is begun by `nobody`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import lru_cache
from itertools import count
from typing import Any, TypeVar

import attrs

from scstd.block.capabilities import Capabilities
from scstd.interfaces import (
    Asker,
    ISessions,
    LunSession,
    current_asker,
)
from scstd.scsi.command import Command, Outcome, Table
from scstd.scsi.sam import ITL, Task

T = TypeVar("T")

_numbers = count(1)

_COPY = (0x83, "THIRD-PARTY COPY OUT")


@attrs.define(eq=False)
class StoreSessions:
    """
    The sessions at one logical unit, as its store sees them.
    """

    told: ISessions | None
    """The store, if it wants to know of them."""
    asked: bool
    """Whether it wants to know who asks."""
    _there: dict[ITL, LunSession] = attrs.field(factory=dict)

    def open(self, itl: ITL) -> None:
        """
        Take in a nexus.
        """
        session = self._there[itl] = _session(itl)
        if self.told is not None:
            self.told.session_opened(session)

    def close(self, itl: ITL) -> None:
        """
        Let a nexus go that makes no call any more.
        """
        session = self._there.pop(itl, None)
        if session is not None and self.told is not None:
            self.told.session_closed(session)

    def close_all(self) -> None:
        """
        Let all go: the store is about to be closed.
        """
        for itl in list(self._there):
            self.close(itl)

    def of(self, itl: ITL) -> LunSession:
        """
        Return the session of a nexus.
        """
        return self._there.get(itl) or _session(itl)


def _session(itl: ITL) -> LunSession:
    nexus = itl.nexus
    return LunSession(
        number=next(_numbers),
        initiator=nexus.initiator,
        initiator_port=nexus.initiator_port,
        target=nexus.target.qualified_name,
        lun=itl.lun,
        device=itl.unit.name,
    )


def sessions_of(can: Capabilities) -> StoreSessions | None:
    """
    Return what a unit needs for its store to know its sessions; None if that does not
    care.
    """
    told, asked = can.sessions, can.asked
    return StoreSessions(told, asked) if asked or told is not None else None


@lru_cache(maxsize=1024)
def asked(row: Command) -> Command:
    """
    Return a row that does the same, but tells the store who asks.
    """
    run, opcode, name = row.run, row.opcode, row.name

    def answering(unit: Any, task: Task) -> Outcome:
        asker = Asker(
            unit.sessions.of(task.itl),
            opcode,
            name,
            task.tag,
            task.priority,
            task.internal,
        )
        before = current_asker.set(asker)
        try:
            return run(unit, task)
        finally:
            current_asker.reset(before)

    return attrs.evolve(row, run=answering)


def asked_rows(rows: Table) -> Table:
    """
    Return a command table that tells the store who asks.

    What is added to it later (`scstd.scsi.command.amend`: asymmetric access) does not:
    it calls no store, but may have a device opened or closed.
    """
    return {
        opcode: (
            asked(row)
            if isinstance(row, Command)
            else {action: asked(one) for action, one in row.items()}
        )
        for opcode, row in rows.items()
    }


def for_copy(itl: ITL, call: Callable[[], T]) -> T:
    """
    Call the store of a nexus's unit for a copy of that nexus, without a task.
    """
    sessions = itl.unit.sessions
    if sessions is None or not sessions.asked:
        return call()
    asker = Asker(sessions.of(itl), *_COPY, tag=-1, internal=True)
    before = current_asker.set(asker)
    try:
        return call()
    finally:
        current_asker.reset(before)


def nobody(call: Callable[..., T], *args: Any) -> T:
    """
    Call what goes on for itself: nobody asks, also in all that it begins.
    """
    if current_asker.get() is None:
        return call(*args)

    def alone() -> T:
        current_asker.set(None)
        return call(*args)

    return copy_context().run(alone)
