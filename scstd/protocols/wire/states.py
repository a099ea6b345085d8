# SPDX-License-Identifier: MIT
"""
The state machines of a target's connections, sessions and logins (RFC 7143 sections 8
and 6.3); doc/states.md has them drawn.

Two rules.  Everything about states is in this file: the rest of the package asks
`Connection.state`, `Session.state` and `Login.stage` and calls `after`, `session_after`
and `login_after`.  And an entry that is missing from a table is the protocol error:
nothing is allowed that is not written here.

The RFC's state names and transition numbers are kept: T of the standard connection
diagram, M of the connection cleanup diagram (its R states are the connection's last
ones here), N of the session diagram.  T1, T2 and T14, N4, and the XPT_WAIT state are
the initiator's alone.  A row without a number is none of the RFC's: it changes nothing.

A connection is FREE when its initiator has logged it out, which at error recovery level
2 is before its tasks are gone: whether they are is
`Connection.is_cleaned_up`.
"""

from __future__ import annotations

from enum import Enum, IntEnum, auto


class ConnectionState(Enum):
    """
    States of a connection (RFC 7143 sections 8.1.1 and 8.2.1).
    """

    FREE = auto()
    """S1, and R3."""
    XPT_UP = auto()
    """S3."""
    IN_LOGIN = auto()
    """S4."""
    LOGGED_IN = auto()
    """S5."""
    IN_LOGOUT = auto()
    """S6."""
    LOGOUT_REQUESTED = auto()
    """S7: we have asked the initiator to log out."""
    CLEANUP_WAIT = auto()
    """S8, and R1: it failed, and the initiator may still speak of its tasks."""
    IN_CLEANUP = auto()
    """R2."""


class ConnectionEvent(Enum):
    """
    What happens to a connection.
    """

    ACCEPTED = auto()
    """The transport connection is there."""
    LOGIN_REQUEST = auto()
    LOGIN_DONE = auto()
    """The final Login Response with status 0 has been sent."""
    LOGIN_FAILED = auto()
    """A Login Response with an error status has been sent, or the login timed out."""
    LOGOUT_ASKED = auto()
    """We have sent an Asynchronous Message that asks for a logout."""
    LOGOUT_REQUEST = auto()
    LOGOUT_DONE = auto()
    """The Logout Response (success) has been sent."""
    LOGOUT_FAILED = auto()
    """A Logout Response with an error has been sent."""
    CLOSED_ELSEWHERE = auto()
    """A logout on another connection, or a reinstatement, closed this one cleanly."""
    FAILED = auto()
    """The initiator broke the protocol, or we drop the connection."""
    DISCONNECTED = auto()
    """The transport connection is gone."""
    CLEANUP = auto()
    """A logout of this connection, explicit or implicit, has begun elsewhere."""
    CLEANED_UP = auto()
    """That logout has succeeded; without one, the time for it is over."""
    CLEANUP_FAILED = auto()
    """The login that was to take this connection's place has failed."""


_S, _E = ConnectionState, ConnectionEvent

TRANSITIONS: dict[
    tuple[ConnectionState, ConnectionEvent], tuple[ConnectionState, str]
] = {
    (_S.FREE, _E.ACCEPTED): (_S.XPT_UP, "T3"),
    (_S.XPT_UP, _E.LOGIN_REQUEST): (_S.IN_LOGIN, "T4"),
    (_S.XPT_UP, _E.LOGIN_FAILED): (_S.FREE, "T6"),
    (_S.XPT_UP, _E.FAILED): (_S.FREE, "T6"),
    (_S.XPT_UP, _E.DISCONNECTED): (_S.FREE, "T6"),
    (_S.IN_LOGIN, _E.LOGIN_REQUEST): (_S.IN_LOGIN, ""),
    (_S.IN_LOGIN, _E.LOGIN_DONE): (_S.LOGGED_IN, "T5"),
    (_S.IN_LOGIN, _E.LOGIN_FAILED): (_S.FREE, "T7"),
    (_S.IN_LOGIN, _E.FAILED): (_S.FREE, "T7"),
    (_S.IN_LOGIN, _E.DISCONNECTED): (_S.FREE, "T7"),
    (_S.LOGGED_IN, _E.CLOSED_ELSEWHERE): (_S.FREE, "T8"),
    (_S.LOGGED_IN, _E.LOGOUT_REQUEST): (_S.IN_LOGOUT, "T9"),
    (_S.LOGOUT_REQUESTED, _E.LOGOUT_REQUEST): (_S.IN_LOGOUT, "T10"),
    (_S.LOGGED_IN, _E.LOGOUT_ASKED): (_S.LOGOUT_REQUESTED, "T11"),
    (_S.LOGOUT_REQUESTED, _E.LOGOUT_ASKED): (_S.LOGOUT_REQUESTED, "T12"),
    (_S.IN_LOGOUT, _E.LOGOUT_DONE): (_S.FREE, "T13"),
    (_S.IN_LOGOUT, _E.CLOSED_ELSEWHERE): (_S.FREE, "T13"),
    (_S.LOGGED_IN, _E.FAILED): (_S.CLEANUP_WAIT, "T15"),
    (_S.LOGGED_IN, _E.DISCONNECTED): (_S.CLEANUP_WAIT, "T15"),
    (_S.LOGOUT_REQUESTED, _E.FAILED): (_S.CLEANUP_WAIT, "T16"),
    (_S.LOGOUT_REQUESTED, _E.DISCONNECTED): (_S.CLEANUP_WAIT, "T16"),
    (_S.IN_LOGOUT, _E.FAILED): (_S.CLEANUP_WAIT, "T17"),
    (_S.IN_LOGOUT, _E.DISCONNECTED): (_S.CLEANUP_WAIT, "T17"),
    (_S.IN_LOGOUT, _E.LOGOUT_FAILED): (_S.CLEANUP_WAIT, "T17"),
    (_S.LOGOUT_REQUESTED, _E.CLOSED_ELSEWHERE): (_S.FREE, "T18"),
    (_S.CLEANUP_WAIT, _E.CLEANED_UP): (_S.FREE, "M1"),
    (_S.CLEANUP_WAIT, _E.CLEANUP): (_S.IN_CLEANUP, "M2"),
    (_S.IN_CLEANUP, _E.CLEANUP_FAILED): (_S.CLEANUP_WAIT, "M3"),
    (_S.IN_CLEANUP, _E.CLEANED_UP): (_S.FREE, "M4"),
    (_S.FREE, _E.CLEANED_UP): (_S.FREE, ""),
}
"""Where an event leads from a state, and the RFC's number of that step."""


def after(state: ConnectionState, event: ConnectionEvent) -> ConnectionState:
    """
    Return the state of a connection that *event* leads to.

    :raises KeyError: it cannot happen in this state.
    """
    return TRANSITIONS[state, event][0]


class SessionState(Enum):
    """
    States of a session at a target (RFC 7143 section 8.3.3).
    """

    FREE = auto()
    """Q1."""
    ACTIVE = auto()
    """Q2: its leading connection is logging in."""
    LOGGED_IN = auto()
    """Q3."""
    FAILED = auto()
    """Q4: no connection is left, and it may be continued."""
    IN_CONTINUE = auto()
    """Q5: a login that continues it is under way."""


class SessionEvent(Enum):
    """
    What happens to a session.
    """

    LOGIN_BEGUN = auto()
    LOGIN_DONE = auto()
    LOGIN_FAILED = auto()
    CLOSED = auto()
    """It was closed by a logout, by us, or by a login that took its place."""
    CONNECTIONS_FAILED = auto()
    """The last connection failed."""
    TIMED_OUT = auto()
    """Time2Wait and Time2Retain are over."""
    CONTINUATION_BEGUN = auto()
    CONTINUATION_FAILED = auto()
    CONTINUED = auto()


_Q, _N = SessionState, SessionEvent

SESSION_TRANSITIONS: dict[
    tuple[SessionState, SessionEvent], tuple[SessionState, str]
] = {
    (_Q.FREE, _N.LOGIN_BEGUN): (_Q.ACTIVE, "N1"),
    (_Q.ACTIVE, _N.LOGIN_DONE): (_Q.LOGGED_IN, "N2"),
    (_Q.LOGGED_IN, _N.CLOSED): (_Q.FREE, "N3"),
    (_Q.LOGGED_IN, _N.CONNECTIONS_FAILED): (_Q.FAILED, "N5"),
    (_Q.FAILED, _N.TIMED_OUT): (_Q.FREE, "N6"),
    (_Q.FAILED, _N.CLOSED): (_Q.FREE, "N6"),
    (_Q.FAILED, _N.CONTINUATION_BEGUN): (_Q.IN_CONTINUE, "N7"),
    (_Q.IN_CONTINUE, _N.CONTINUATION_FAILED): (_Q.FAILED, "N8"),
    (_Q.ACTIVE, _N.LOGIN_FAILED): (_Q.FREE, "N9"),
    (_Q.IN_CONTINUE, _N.CONTINUED): (_Q.LOGGED_IN, "N10"),
    (_Q.IN_CONTINUE, _N.CLOSED): (_Q.FREE, "N11"),
}
"""Where an event leads from a session's state, and the RFC's number of that step."""


def session_after(state: SessionState, event: SessionEvent) -> SessionState:
    """
    Return the state of a session that *event* leads to.

    :raises KeyError: it cannot happen in this state.
    """
    return SESSION_TRANSITIONS[state, event][0]


class LoginStage(IntEnum):
    """
    Stages of a login, by their numbers in CSG and NSG (RFC 7143 section 11.12.3).
    """

    NONE = -1
    """No request has come."""
    SECURITY = 0
    """SecurityNegotiation."""
    OPERATIONAL = 1
    """LoginOperationalNegotiation."""
    FULL_FEATURE = 3
    """FullFeaturePhase: the login is done."""


class LoginEvent(Enum):
    """
    What a request of the stage asks for, and the response then grants.
    """

    BEGIN_SECURITY = auto()
    """The first request has CSG 0."""
    BEGIN_OPERATIONAL = auto()
    """The first request has CSG 1: no security stage is wanted."""
    STAY = auto()
    """T is 0: the stage goes on."""
    TO_OPERATIONAL = auto()
    """T is 1 and NSG is 1."""
    TO_FULL_FEATURE = auto()
    """T is 1 and NSG is 3."""


_G, _L = LoginStage, LoginEvent

LOGIN_TRANSITIONS: dict[tuple[LoginStage, LoginEvent], tuple[LoginStage, str]] = {
    (_G.NONE, _L.BEGIN_SECURITY): (_G.SECURITY, "6.3.1"),
    (_G.NONE, _L.BEGIN_OPERATIONAL): (_G.OPERATIONAL, "6.3.1"),
    (_G.SECURITY, _L.STAY): (_G.SECURITY, "6.3.2"),
    (_G.SECURITY, _L.TO_OPERATIONAL): (_G.OPERATIONAL, "6.3.2"),
    (_G.SECURITY, _L.TO_FULL_FEATURE): (_G.FULL_FEATURE, "6.3.2"),
    (_G.OPERATIONAL, _L.STAY): (_G.OPERATIONAL, "6.3.3"),
    (_G.OPERATIONAL, _L.TO_FULL_FEATURE): (_G.FULL_FEATURE, "6.3.3"),
}
"""Where an event leads from a login's stage, and the RFC's section about it."""

LOGIN_BEGINS: dict[int, LoginEvent] = {
    _G.SECURITY: _L.BEGIN_SECURITY,
    _G.OPERATIONAL: _L.BEGIN_OPERATIONAL,
}
"""By the CSG of the first request: what it is."""

LOGIN_LEAVES: dict[int, LoginEvent] = {
    _G.OPERATIONAL: _L.TO_OPERATIONAL,
    _G.FULL_FEATURE: _L.TO_FULL_FEATURE,
}
"""By the NSG of a request, or of its response, with T: what it is."""


def login_after(stage: LoginStage, event: LoginEvent) -> LoginStage:
    """
    Return the stage of a login that *event* leads to.

    :raises KeyError: it cannot happen in this stage.
    """
    return LOGIN_TRANSITIONS[stage, event][0]
