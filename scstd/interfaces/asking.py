# SPDX-License-Identifier: MIT
"""
For whom a store is called: who asks, and with which priority.

**While a store is called** `asking` returns who asks, if the store says that it wants
to know (`IKnowsAsker`): of others nobody takes the trouble, and what it returns then
means nothing.  It is there during the call itself; in an ``async def`` until that
ends, whatever it awaits.  It is not there in the callback of a Deferred, nor in a
thread: ask before, or have what is called later be `carried`.  Each call of a store is
made so that is made for a command, the later steps of commands of many steps and those
of copies too.  What nobody's command asks for has None: what goes on behind its
command's answer (formatting, sanitizing, self-tests), the flush at the end, what a
person does.

A filter that calls the next one within its own call hands on who asks by that alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TypeVar

import attrs
from zope.interface import Interface

T = TypeVar("T")

command_priority: ContextVar[int] = ContextVar("command_priority", default=0)
"""
The priority of the command for which a store is called, 1 (the highest) to 15; 0 if it
has none.  A store whose calls wait may let those of a high priority go first
(`scstd.blocking.Lane` does).  It is there when `asking` would be, for every store.
"""


@attrs.frozen(eq=False)
class LunSession:
    """
    One initiator's session with one LUN (an I_T_L nexus), from its coming to its end.

    It is the same object for all of that time, and equal to no other: a key for what is
    kept for each session.  Another session of the initiator has another one, and so has
    this one at another LUN, and after other filters were put before the store.
    """

    number: int
    """No other in this process has or had it."""
    initiator: str
    """The initiator's name."""
    initiator_port: str
    """The initiator port's: for iSCSI ``name,i,0xISID`` (RFC 7143 section 4.4.2)."""
    target: str
    """The target's name."""
    lun: int
    """The LUN under which the initiator has the device."""
    device: str
    """The device's name."""


@attrs.frozen
class Asker:
    """
    The command for which a store is called, and whose it is.
    """

    session: LunSession
    opcode: int
    """Byte 0 of its CDB."""
    command: str
    """Its name, as the standards have it: ``WRITE(10)``."""
    tag: int
    """What the initiator knows it by (for iSCSI the Initiator Task Tag); -1 if it is
    internal."""
    priority: int = 0
    """1 (the highest) to 15; 0 if it has none."""
    internal: bool = False
    """It is the target's own, made for a command of this initiator: a copy is."""


current_asker: ContextVar[Asker | None] = ContextVar("current_asker", default=None)
"""Who asks (`asking`).  It is set by the device server, and by tests of filters."""


def asking() -> Asker | None:
    """
    Return for whom the store is being called, or None if it is for nobody's command.
    """
    return current_asker.get()


def carried(call: Callable[..., T]) -> Callable[..., T]:
    """
    Return what calls *call* later, once, as if it were now: `asking` returns the same.
    """
    context = copy_context()

    def later(*args: object, **named: object) -> T:
        return context.run(call, *args, **named)

    return later


class IKnowsAsker(Interface):
    """
    A marker: a backstore that wants to know who asks (`asking`).

    `scstd.filters.base.Filtered` hands it on, so that a store behind filters has it.
    """


class ISessions(Interface):
    """
    A backstore that is told of the sessions that can call it.

    `scstd.filters.base.Filtered` hands both calls on: who overrides one calls that too.
    What is raised is logged, and changes nothing.
    """

    def session_opened(session: LunSession) -> None:
        """
        Take note of a session, before its first call.  Those that are there when a
        filter is put before an open store come at once.
        """

    def session_closed(session: LunSession) -> None:
        """
        Take note that a session has made its last call; once for each that was opened.

        What it began and did not wait for (IMMED) may still be under way.
        """
