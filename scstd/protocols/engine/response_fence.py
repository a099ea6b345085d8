# SPDX-License-Identifier: MIT
"""
The Response Fence: some responses must not be overtaken, nor overtake others, though
they go out on different connections (RFC 7143 section 4.2.2.3).

A session of one connection needs none: TCP keeps the order.  One that may have several
has a `Fence`.  A fenced response waits until the initiator has acknowledged what was
sent before on every connection, and what comes after it waits until it is acknowledged
itself.  The initiator is pinged, for the answer to a ping acknowledges.

Where TaskReporting is ResponseFence or FastAbort every response comes through the
fence, which sees what it says.  With RFC3720 only the responses to functions that abort
several tasks are fenced (section 4.2.3.3), and nothing comes through the fence until
there is one.

What waits is bounded: a command whose response is held counts as unfinished in the
CmdSN window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from scstd.protocols.engine.tapped import TapRank
from scstd.protocols.engine.timers import ping
from scstd.protocols.wire.serial import less
from scstd.scsi.command import naca
from scstd.scsi.sam import ITL, Status, Task
from scstd.scsi.sense import ASC, SenseKey

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.session import Session
    from scstd.protocols.engine.tapped import Onward, TappedPDU
    from scstd.protocols.wire.pdu import SCSICommand

_CLEARED = frozenset(
    (
        ASC.BUS_DEVICE_RESET_FUNCTION_OCCURRED,
        ASC.COMMANDS_CLEARED_BY_ANOTHER_INITIATOR,
    )
)
"""The unit attentions that functions which abort several tasks leave behind."""

_PERSISTENT_RESERVE_OUT = 0x5F
_PREEMPT_AND_ABORT = 0x05


def is_fenced(task: Task) -> bool:
    """
    Say whether the response to a task needs a fence (RFC 7143 section 4.2.2.3.4).
    """
    cdb, failure = task.cdb, task.failure
    if failure is not None:
        # With NACA it has established an auto contingent allegiance.
        cleared = failure.key == SenseKey.UNIT_ATTENTION and failure.asc in _CLEARED
        return cleared or naca(cdb)
    return task.status == Status.ACA_ACTIVE or (
        cdb[0] == _PERSISTENT_RESERVE_OUT and cdb[1] & 0x1F == _PREEMPT_AND_ABORT
    )


@attrs.define(eq=False)
class HeldResponse:
    """
    A response that waits.
    """

    connection: Connection
    pdu: Any
    """The request that it answers."""
    send: Callable[[], None]
    """Sends it."""
    fenced: bool
    noted: bool = False
    """Whether what it waits for has been taken note of."""


@attrs.define(eq=False)
class Fence:
    """
    The fence of one session.
    """

    session: Session
    always: bool = True
    """Whether every response comes through it; else only while something waits."""
    up: bool = attrs.field(init=False)
    """Whether responses come through it now."""
    acknowledged: dict[Connection, int] = attrs.field(factory=dict)
    """Each connection's latest ExpStatSN."""
    awaited: dict[Connection, tuple[int, float]] = attrs.field(factory=dict)
    """
    What a connection's ExpStatSN has to be before anything goes on, and since when.
    """
    held: deque[HeldResponse] = attrs.field(factory=deque)
    """Responses that wait, in order."""
    marked: set[ITL] = attrs.field(factory=set)
    """The next response of each of these is fenced, whatever it says."""

    def __attrs_post_init__(self) -> None:
        self.up = self.always

    def rise(self, connection: Connection) -> None:
        """
        Have a connection's responses come through the fence.
        """
        connection.fence(self.respond)
        connection.taps.set(TapRank.FENCE, partial(self.see, connection))

    def _raise(self) -> None:
        """
        Have all responses come through the fence from now on.
        """
        if not self.up:
            self.up = True
            for connection in self.session.connections.values():
                self.rise(connection)

    def _lower(self) -> None:
        """
        Have nothing come through it any more, if it is not always there.
        """
        if self.up and not self.always:
            self.up = False
            self.acknowledged.clear()
            for connection in self.session.connections.values():
                connection.fence(None)
                connection.taps.set(TapRank.FENCE, None)

    def mark(self, itl: ITL) -> None:
        """
        Have the next response of *itl* fenced, if tasks' responses ever are.
        """
        if self.always:
            self.marked.add(itl)

    def respond(self, connection: Connection, task: Task, command: SCSICommand) -> None:
        """
        Answer a task as the connection would, when nothing stands before it.
        """
        fenced = self.always and (is_fenced(task) or task.itl in self.marked)
        self.marked.discard(task.itl)

        def send() -> None:
            # What a connection that is gone had to say is kept, if it keeps anything.
            if not connection.over or connection.recovery is not None:
                connection.unfenced_responder(connection, task, command)

        self.put(connection, command, send, fenced=fenced)

    def put(
        self,
        connection: Connection,
        pdu: Any,
        send: Callable[[], None],
        *,
        fenced: bool,
    ) -> None:
        """
        Have the response to the request *pdu* sent, now or when its turn comes.
        """
        alone = len(self.session.connections) < 2
        if not self.held and not self.awaited and (alone or not fenced):
            send()
            return
        self._raise()
        self.session.ordering.delayed(pdu)
        self.held.append(HeldResponse(connection, pdu, send, fenced))
        self._go_on()

    def _go_on(self) -> None:
        while self.held and not self.awaited:
            first = self.held[0]
            if first.fenced and not first.noted:
                first.noted = True
                self._await(self.session.connections.values())
                continue
            self.held.popleft()
            self._release(first)
            if first.fenced:
                self._await([first.connection])
        if not self.held and not self.awaited:
            self._lower()

    def _release(self, held: HeldResponse) -> None:
        connection = held.connection
        self.session.ordering.finished(held.pdu)
        held.send()
        if not connection.over and not connection.receiving:
            connection.wake()

    def _await(self, connections: Iterable[Connection]) -> None:
        """
        Have nothing go on before the last status of these is acknowledged.
        """
        if len(self.session.connections) < 2:
            return
        for one in connections:
            known = self.acknowledged.get(one)
            if not one.over and (known is None or less(known, one.stat_sn)):
                self.awaited[one] = one.stat_sn, one.now
                ping(one, one.now)

    def see(self, connection: Connection, passing: TappedPDU, go_on: Onward) -> None:
        """
        Learn from a PDU's ExpStatSN what the initiator has: a tap.
        """
        exp_stat_sn = getattr(passing.pdu, "exp_stat_sn", None)
        known = self.acknowledged.get(connection)
        if exp_stat_sn is not None and (known is None or less(known, exp_stat_sn)):
            self.acknowledged[connection] = exp_stat_sn
            awaited = self.awaited.get(connection)
            if awaited is not None and not less(exp_stat_sn, awaited[0]):
                del self.awaited[connection]
                self._go_on()
        go_on(passing)

    def overdue(self, connection: Connection, before: float) -> bool:
        """
        Say whether a connection's acknowledgment has been awaited since *before*.
        """
        awaited = self.awaited.get(connection)
        return awaited is not None and awaited[1] < before

    def left(self, connection: Connection) -> None:
        """
        Go on without a connection.
        """
        self.acknowledged.pop(connection, None)
        self.awaited.pop(connection, None)
        if len(self.session.connections) < 2:
            # On the one that is left everything is in order by itself.
            self.awaited.clear()
        # Releasing one may let others go on, or end the session.
        mine = [one for one in self.held if one.connection is connection]
        self.held = deque(one for one in self.held if one.connection is not connection)
        for held in mine:
            self._release(held)
        self._go_on()

    def close(self) -> None:
        """
        Let everything through: the session is about to end.
        """
        self.awaited.clear()
        while self.held:
            self._release(self.held.popleft())


def build(connection: Connection) -> None:
    """
    Give a connection that is logged in, and its session, a fence if they need one.
    """
    session = connection.session
    assert session is not None
    parameters = connection.parameters
    if parameters.max_connections < 2:
        return
    if session.fence is None:
        session.put_fence(Fence(session, parameters.task_reporting != "RFC3720"))
    assert session.fence is not None
    if session.fence.up:
        session.fence.rise(connection)
