# SPDX-License-Identifier: MIT
"""
What a function that aborts several tasks does to those of others, and of other
connections (RFC 7143 sections 4.2.3.2 to 4.2.3.5).

Where TaskReporting=FastAbort was agreed on, the initiator is told by an Asynchronous
Message for each LUN on each connection that has affected tasks, but not on the one that
carries the function: it stops its Data-Out there, and says so by a NOP-Out that
acknowledges the message.  Until then the Target Transfer Tags of those tasks stay
valid, and what comes for them is dropped; then they are forgotten.

A session whose responses are fenced has its next one fenced, whoever asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine import async_message
from scstd.protocols.wire.codes import RESERVED_TAG, TaskManagementCode
from scstd.protocols.wire.pdu import NOPOut, TaskManagementRequest
from scstd.protocols.wire.serial import less
from scstd.scsi.sam import ITL, Task, TaskManagementFunction

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.session import Session

MAX_TERMINATIONS = 1024
"""Messages of which a session may owe the acknowledgment; older ones are forgotten."""

MULTI_TASK = frozenset(
    (
        TaskManagementCode.ABORT_TASK_SET,
        TaskManagementCode.CLEAR_TASK_SET,
        TaskManagementCode.LOGICAL_UNIT_RESET,
        TaskManagementCode.TARGET_WARM_RESET,
        TaskManagementCode.TARGET_COLD_RESET,
        TaskManagementCode.I_T_NEXUS_RESET,
    )
)
"""The functions that abort several tasks; the last by RFC 7144 section 6.5."""


@attrs.define(eq=False)
class Affected:
    """
    The affected tasks of one connection at one LUN, by their tags.
    """

    session: Session
    connection: Connection
    itl: ITL
    lun: int
    tags: list[int] = attrs.field(factory=list)


@attrs.frozen
class Termination:
    """
    An Asynchronous Message that is not acknowledged, and the Target Transfer Tags by
    task tag that are valid until it is.
    """

    connection: Connection
    stat_sn: int
    lun: int
    transfers: dict[int, frozenset[int]]


def affected(
    session: Session,
    pdu: TaskManagementRequest,
    function: TaskManagementFunction,
    spared: frozenset[Task],
) -> list[Affected]:
    """
    Return what a function of `MULTI_TASK` is about to abort, in every session.
    """
    doomed = set(session.nexus.affected(function, pdu.lun)) - spared
    found: dict[tuple[Connection, int], Affected] = {}
    for one in session.node.sessions():
        for task in one.tasks.values():
            if task not in doomed:
                continue
            for connection in one.connections.values():
                if task.done is connection.done:
                    lun = task.context.lun
                    key = connection, lun
                    if key not in found:
                        found[key] = Affected(one, connection, task.itl, lun)
                    found[key].tags.append(task.tag)
    return list(found.values())


def tell(issuing: Connection, every: list[Affected]) -> None:
    """
    Tell of tasks that a function which came on *issuing* has aborted: before it is
    answered.
    """
    for one in every:
        session, connection = one.session, one.connection
        if session.closed or connection is issuing:
            continue
        if session is not issuing.session and session.fence is not None:
            session.fence.mark(one.itl)
        if connection.parameters.task_reporting == "FastAbort":
            _terminate(one)


def _terminate(one: Affected) -> None:
    session, connection = one.session, one.connection
    stat_sn = async_message.task_termination(connection, one.lun)
    if stat_sn is None:
        return
    transfers = {
        tag: frozenset(session.writes.abandoned[tag] - {RESERVED_TAG})
        for tag in one.tags
        if tag in session.writes.abandoned
    }
    if transfers:
        session.terminations.append(
            Termination(connection, stat_sn, one.lun, transfers)
        )
        del session.terminations[:-MAX_TERMINATIONS]


def acknowledge(connection: Connection, pdu: NOPOut) -> None:
    """
    Forget the Target Transfer Tags of tasks whose termination a NOP-Out acknowledges:
    no Data-Out comes for them any more (RFC 7143 section 11.9.1, AsyncEvent 5).
    """
    session = connection.session
    if session is None or pdu.ttt != RESERVED_TAG:
        return
    for one in list(session.terminations):
        if (
            one.connection is connection
            and one.lun == pdu.lun
            and less(one.stat_sn, pdu.exp_stat_sn)
        ):
            session.terminations.remove(one)
            for tag, tags in one.transfers.items():
                session.writes.abandoned.forget(tag, tags)
