# SPDX-License-Identifier: MIT
"""
Asynchronous Messages: what a target says without having been asked (RFC 7143 section
11.9).

Each function sends one, on a connection of the session; the initiator's answer, if any
is due, is a logout, a login or a Text Request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scstd.protocols.engine.connection_cleanup import Dismissal
from scstd.protocols.wire.codes import AsyncEvent
from scstd.protocols.wire.pdu import AsynchronousMessage
from scstd.protocols.wire.states import ConnectionEvent, ConnectionState
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.session import Session


_TALKING = frozenset((ConnectionState.LOGGED_IN, ConnectionState.LOGOUT_REQUESTED))
"""States of a connection whose initiator has not said that it goes."""


def _send(connection: Connection, event: AsyncEvent, **fields: Any) -> None:
    connection.send_pdu(AsynchronousMessage(async_event=event, **fields))
    if not connection.receiving:
        connection.wake()


def scsi_event(session: Session, lun: int, asc: ASC) -> bool:
    """
    Tell of a unit attention at *lun*, in sense data; return False if there is no
    connection to tell it on.

    It does not take the place of the unit attention.  RFC 7143 leaves it to SAM-2,
    whose asynchronous event reporting is gone from later standards: in those a unit
    attention stays until a command has reported it, or its nexus is lost.  And an
    initiator may ignore the message, or see it after answers to commands that assumed
    the former capacity.  SCST sends the one or the other.
    """
    for connection in session.connections.values():
        if connection.state not in _TALKING:
            continue
        unit = session.nexus.itls.get(lun)
        sense = encode(
            CheckCondition(SenseKey.UNIT_ATTENTION, asc),
            descriptor=unit is not None and unit.unit.descriptor_sense,
        )
        _send(
            connection,
            AsyncEvent.SCSI,
            # Flat space addressing from 256 on (SAM-5 section 4.7).
            lun=(lun if lun < 256 else 0x4000 | lun) << 48,
            data=len(sense).to_bytes(2, "big") + sense,
        )
        return True
    return False


def task_termination(connection: Connection, lun: int) -> int | None:
    """
    Say that all active tasks at the LUN field *lun* are being terminated; return the
    message's StatSN, or None if there is nobody to tell.

    Only where TaskReporting=FastAbort was agreed on.
    """
    if connection.state not in _TALKING:
        return None
    stat_sn = connection.stat_sn
    _send(connection, AsyncEvent.TASK_TERMINATION, lun=lun)
    return stat_sn


def ask_for_logout(connection: Connection, within: int) -> None:
    """
    Ask the initiator to log a connection out within so many seconds.
    """
    connection.happened(ConnectionEvent.LOGOUT_ASKED)
    _send(connection, AsyncEvent.LOGOUT_REQUEST, parameter3=within)


def drop_connection(connection: Connection, why: str) -> None:
    """
    Say that a connection is dropped, and drop it; the session may go on.
    """
    session = connection.session
    if session is None or len(session.connections) == 1:
        _tell_of_drop(connection, connection)
    # Else it is told on another connection: there it will surely arrive.
    connection.fail(why)


def connection_dropped(session: Session, connection: Connection) -> None:
    """
    Say on another connection, if there is one, that this one is gone (RFC 7143 section
    7.1.4.3).
    """
    for other in session.connections.values():
        if other.state in _TALKING:
            _tell_of_drop(other, connection)
            return


def _tell_of_drop(teller: Connection, dropped: Connection) -> None:
    session = teller.session
    _send(
        teller,
        AsyncEvent.CONNECTION_DROP,
        parameter1=dropped.cid,
        parameter2=dropped.parameters.default_time2wait,
        # How long the tasks can be reassigned, not what was agreed on for it.
        parameter3=0 if session is None else session.retains,
    )


def drop_session(session: Session, why: str) -> None:
    """
    Say that all connections are dropped, and drop them and the session (force_close):
    it can not be continued.
    """
    for connection in session.connections.values():
        _send(
            connection,
            AsyncEvent.SESSION_DROP,
            parameter2=connection.parameters.default_time2wait,
            parameter3=0,
        )
    session.end(why)


def dismiss(session: Session, why: str, gone: Callable[[], None]) -> None:
    """
    Have the initiator log the session out, with what it still has to do done before;
    one that does not is dropped when the target's *logout_timeout* is over.  Call
    *gone* when none of the session's tasks can touch data any more.

    There is no time for one that has no connection just now, and with a time of 0.
    """
    session.when_gone(gone)
    if session.closed:
        return
    there = [one for one in session.connections.values() if one.state in _TALKING]
    within = session.settings.logout_timeout
    if not there or not within:
        drop_session(session, why)
        return
    if session.dismissal is None:
        # The time is known to a second: the initiator is to have all of it.
        now = max(connection.now for connection in there)
        session.dismiss(Dismissal(now + within + 1, why))
    for connection in there:
        ask_for_logout(connection, within)


def ask_for_negotiation(connection: Connection, within: int) -> None:
    """
    Ask the initiator to negotiate its keys again, within so many seconds.
    """
    _send(connection, AsyncEvent.NEGOTIATION_REQUEST, parameter3=within)
