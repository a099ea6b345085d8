# SPDX-License-Identifier: MIT
"""
How a connection leaves its session, and what becomes of its tasks (RFC 7143 sections
7.2.2, 7.6 and 7.14).

Below error recovery level 2 the tasks of a connection that is gone are terminated, as
soon as the store has finished with them, and the initiator is told by a unit attention.
At level 2 they are kept, running or finished, until the initiator has logged the
connection out for recovery and reassigned them, or until Time2Wait and Time2Retain are
over.  The session itself lives on while it has a connection, and Time2Wait and
Time2Retain longer if what was negotiated has the latter above 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from scstd.protocols.wire.codes import IMMEDIATE
from scstd.protocols.wire.states import (
    ConnectionEvent,
    ConnectionState,
    SessionEvent,
    SessionState,
)
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import ASC
from scstd.scsi.taskset import when_all

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.session import Session


@attrs.frozen
class Dismissal:
    """
    A session whose initiator was asked to log out: by when, and why.
    """

    until: float
    why: str


@attrs.define(eq=False)
class Lost:
    """
    A connection that failed with tasks that may be reassigned.

    *logged_out* says that the initiator has logged it out for recovery, so that it may.
    """

    connection: Connection
    since: float
    logged_out: bool = False


def leave(
    session: Session, connection: Connection, *, logged_out: bool, joining: bool
) -> None:
    """
    Take a connection that is over out of its session.
    """
    take_out(session, connection)
    if session.closed:
        session.when_gone(connection.cleaned_up)
        return
    parameters = connection.parameters
    retained = session.retains > 0
    if not session.connections and not joining:
        leave_alone(session, connection.now, connection.cleaned_up)
        if not retained:
            return
    if parameters.error_recovery_level == 2 and retained:
        _drop_immediate(session, connection)
        lost = Lost(connection, connection.now)
        session.lost[connection] = lost
        if logged_out:
            log_out(lost, connection.now)
    else:
        depart(session, connection)


def leave_alone(session: Session, now: float, closed: Callable[[], None]) -> None:
    """
    Have a session wait that has no connection left; call *closed* when its tasks are
    gone, if it is not retained but ends.
    """
    if session.retains > 0:
        session.lost_connections(now)
    else:
        session.close(closed)


def take_out(session: Session, connection: Connection) -> None:
    """
    Have a session know nothing of a connection but its tasks.
    """
    session.ordering.drop(connection)
    if session.connections.get(connection.cid) is connection:
        del session.connections[connection.cid]
    session.forget_terminations(connection)
    if session.fence is not None:
        session.fence.left(connection)


def clean_up(lost: Lost) -> None:
    """
    Begin to log a lost connection out.
    """
    if lost.connection.state is ConnectionState.CLEANUP_WAIT:
        lost.connection.happened(ConnectionEvent.CLEANUP)


def log_out(lost: Lost, now: float) -> None:
    """
    Note that a lost connection is logged out: its tasks may be reassigned.
    """
    if not lost.logged_out:
        clean_up(lost)
        lost.logged_out = True
        lost.since = now
        lost.connection.happened(ConnectionEvent.CLEANED_UP)


def not_logged_out(lost: Lost) -> None:
    """
    Note that the login that was to log a lost connection out has failed.
    """
    if lost.connection.state is ConnectionState.IN_CLEANUP:
        lost.connection.happened(ConnectionEvent.CLEANUP_FAILED)


def allegiant(session: Session, connection: Connection) -> list[Task]:
    """
    Return the tasks of one connection.
    """
    mine = connection.done
    return [task for task in session.tasks.values() if task.done is mine]


def _drop_immediate(session: Session, connection: Connection) -> None:
    """
    Terminate the immediate commands of a connection that failed: they cannot be
    recovered (section 7.14).
    """
    recovery = connection.recovery
    answers = [] if recovery is None else list(recovery.answers.values())
    for answer in answers:
        if recovery is not None and answer.command.first & IMMEDIATE:
            recovery.release(answer)
    for task in allegiant(session, connection):
        if task.context.first & IMMEDIATE:
            task.itl.unit.abort([task], lambda: None)


def abandon(session: Session, connection: Connection, gone: Callable[[], None]) -> None:
    """
    Terminate the tasks of a connection; call *gone* when none of them is left.
    """
    session.lost.pop(connection, None)
    if connection.recovery is not None:
        connection.recovery.forget()
    doomed: dict[ITL, list[Task]] = {}
    for task in allegiant(session, connection):
        doomed.setdefault(task.itl, []).append(task)
    left = len(doomed) + 1

    def one() -> None:
        nonlocal left
        left -= 1
        if not left:
            gone()

    for itl, tasks in doomed.items():
        if itl.lun >= 0:
            itl.unit.tell(itl, ASC.SOME_COMMANDS_CLEARED_BY_ISCSI_PROTOCOL_EVENT)
        itl.unit.abort(tasks, one)
    one()


def depart(session: Session, connection: Connection) -> None:
    """
    Terminate the tasks of a connection that is over.

    Until they are gone a login or a logout that means this connection is not answered:
    an old write must not reach the medium after what its initiator does next.
    """

    def gone() -> None:
        session.departing.pop(connection, None)
        connection.cleaned_up()
        if terminated and not session.closed:
            session.tell_window()

    terminated = bool(allegiant(session, connection))

    session.departing[connection] = None
    abandon(session, connection, gone)


def close_other(session: Session, cid: int, done: Callable[[], None]) -> bool:
    """
    Close the connection *cid* for another that logs it out; call *done* when its tasks
    are gone; return False, and do not call it, if there is none.
    """
    live = session.connections.get(cid)
    if live is not None:
        why = "logged out on another connection"
        live.end(ConnectionEvent.DISCONNECTED, why, joining=True)
    for connection in [one for one in session.lost if one.cid == cid]:
        depart(session, connection)
    found = [one for one in session.departing if one.cid == cid]
    if live is not None:
        found.append(live)
    if not found:
        return False
    when_all([one.when_cleaned_up for one in found], done)
    return True


def remove_other(session: Session, cid: int, now: float) -> bool:
    """
    Remove the connection *cid* for recovery; return False if there is none.
    """
    live = session.connections.get(cid)
    if live is not None:
        live.end(ConnectionEvent.DISCONNECTED, "removed for recovery", logged_out=True)
        return True
    found = [lost for one, lost in session.lost.items() if one.cid == cid]
    for lost in found:
        log_out(lost, now)
    return bool(found)


def settle(session: Session, connection: Connection) -> None:
    """
    Let a lost connection go when none of its tasks is left.
    """
    recovery = connection.recovery
    if (
        connection in session.lost
        and not allegiant(session, connection)
        and (recovery is None or not recovery.answers)
    ):
        del session.lost[connection]
        connection.cleaned_up()


def expire(session: Session, now: float) -> None:
    """
    Look whether the time to recover is over, for lost connections and the session.
    """
    wait = session.connection.parameters.default_time2wait
    retention = wait + session.retains
    for connection, lost in list(session.lost.items()):
        if now - lost.since > retention:
            depart(session, connection)
    over = now - session.failed_since > retention
    if session.state is SessionState.FAILED and over:
        session.happened(SessionEvent.TIMED_OUT)
        session.close(None)
