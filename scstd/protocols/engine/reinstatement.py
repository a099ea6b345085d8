# SPDX-License-Identifier: MIT
"""
Logins that name a session: a further connection, one in place of another, and the
continuation of a session that has none left (RFC 7143 sections 6.3.4 and 6.3.6).

A login with a TSIH joins the session of that TSIH.  If its CID is that of a connection
that is there, or that failed, that connection is logged out by it, and its tasks are
terminated; at error recovery level 2 they may be reassigned instead.  What holds for
the session was settled by its first connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scstd.protocols.engine import connection_cleanup
from scstd.protocols.wire.login import Login
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.states import ConnectionEvent, SessionEvent, SessionState
from scstd.scsi.taskset import when_all

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.session import Session


def admit(session: Session | None, login: Login) -> None:
    """
    Let a login go on that names a session, or refuse it.  It changes nothing yet: who
    it is has still to be proved.

    :raises LoginError: there is no such session, or it has connections enough.
    """
    if (
        session is None
        or session.closed
        or session.isid != login.isid
        or session.initiator != login.initiator_name
        or session.nexus.target.name != login.target_name
    ):
        raise LoginError(LoginStatus.SESSION_DOES_NOT_EXIST, f"TSIH {login.tsih}")
    _check_room(session, login.cid)


def _check_room(session: Session, cid: int) -> None:
    others = [one for one in session.connections if one != cid]
    if len(others) >= session.connection.parameters.max_connections:
        raise LoginError(
            LoginStatus.TOO_MANY_CONNECTIONS, f"{len(others)} connections in a session"
        )


def _check_identity(session: Session, connection: Connection) -> None:
    """
    See that a connection was authenticated as the others of its session were: by the
    same method, with the same identity (RFC 7143 section 9.2).

    :raises LoginError: it was not.
    """
    if session.connection.login.identity != connection.login.identity:
        raise LoginError(
            LoginStatus.AUTHENTICATION_FAILURE,
            "another method or user than the session's",
        )


def make_room(
    session: Session, connection: Connection, ready: Callable[[], None]
) -> None:
    """
    Log out the connection whose CID is to be used again, and call *ready* then: when
    its tasks are gone, or may be reassigned.  A session that has no connection left
    waits for the tasks of all that it had.

    :raises LoginError: it is somebody else's.
    """
    _check_identity(session, connection)
    cid = connection.cid
    # The CmdSN of a login that joins is the session's (section 11.12.8).
    connection.order_by(session.ordering)
    if session.state is SessionState.FAILED:
        session.happened(SessionEvent.CONTINUATION_BEGUN)
    live = session.connections.get(cid)
    if live is not None:
        why = "another login took the connection over"
        live.end(ConnectionEvent.FAILED, why, joining=True)
    for one, lost in session.lost.items():
        if one.cid == cid:
            connection_cleanup.clean_up(lost)
            connection.login_phase.replaces.append(lost)
    alone = not session.connections
    if alone:
        connection.login_phase.continue_session(session)
    departing = [one for one in session.departing if alone or one.cid == cid]
    when_all([one.when_cleaned_up for one in departing], ready)


def join(session: Session | None, connection: Connection) -> None:
    """
    Add a connection whose login is done to its session.

    :raises LoginError: the session has ended meanwhile, or is full.
    """
    if session is None or session.closed:
        raise LoginError(LoginStatus.SESSION_DOES_NOT_EXIST, "it has ended")
    cid = connection.cid
    _check_room(session, cid)
    if cid in session.connections:
        raise LoginError(LoginStatus.INITIATOR_ERROR, f"CID {cid} logs in twice")
    parameters = connection.login.parameters
    parameters.join(session.connection.parameters)
    _continued, replaced = connection.login_phase.settle_places()
    for lost in replaced:
        connection_cleanup.log_out(lost, connection.now)
    if session.state is SessionState.FAILED:
        # A reinstatement has taken its last connection away, not a failure.
        session.happened(SessionEvent.CONTINUATION_BEGUN)
    if session.state is SessionState.IN_CONTINUE:
        session.happened(SessionEvent.CONTINUED)
    session.join(connection)


def failed(connection: Connection) -> None:
    """
    Note that a connection is over that belongs to no session: a login that was to begin
    one, or continue one, or take a connection's place; or discovery.
    """
    connection.login_phase.ended()
    session, replaced = connection.login_phase.settle_places()
    for lost in replaced:
        connection_cleanup.not_logged_out(lost)
    if session is None or session.closed:
        return
    if session.state is SessionState.IN_CONTINUE:
        session.happened(SessionEvent.CONTINUATION_FAILED)
    elif session.state is SessionState.LOGGED_IN and not session.connections:
        # It has taken the last connection away, and does not come in its place.
        connection_cleanup.leave_alone(session, connection.now, lambda: None)
