# SPDX-License-Identifier: MIT
"""
The state machine of a target's connection (RFC 7143 section 8.1.3 and 8.1.4).

Two rules.  Everything about states is in this file: the rest of the package asks
`Connection.state` and calls `after`.  And an entry that is missing from the table is
the protocol error: nothing is allowed that is not written here.

The RFC's state names and transition numbers are kept; those that need error recovery
levels above 0 or several connections a session (T9 to T17 of recovery) are not there.
XPT_UP to IN_LOGIN is immediate for us: what arrives first must be a Login Request.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """
    States of a connection (RFC 7143 section 8.1.3).
    """

    FREE = auto()
    XPT_UP = auto()
    IN_LOGIN = auto()
    LOGGED_IN = auto()
    IN_LOGOUT = auto()
    CLEANUP_WAIT = auto()


class Event(Enum):
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
    LOGOUT_REQUEST = auto()
    LOGOUT_DONE = auto()
    """The Logout Response has been sent."""
    FAILED = auto()
    """The initiator broke the protocol, or another login took the session over."""
    DISCONNECTED = auto()
    """The transport connection is gone."""
    CLEANED_UP = auto()
    """No task of the connection can touch data any more."""


_S, _E = State, Event

TRANSITIONS: dict[tuple[State, Event], State] = {
    (_S.FREE, _E.ACCEPTED): _S.XPT_UP,  # T3
    (_S.XPT_UP, _E.LOGIN_REQUEST): _S.IN_LOGIN,  # T4
    (_S.XPT_UP, _E.LOGIN_FAILED): _S.FREE,  # T6, the login timer
    (_S.XPT_UP, _E.FAILED): _S.FREE,  # T6
    (_S.XPT_UP, _E.DISCONNECTED): _S.FREE,  # T6
    (_S.IN_LOGIN, _E.LOGIN_REQUEST): _S.IN_LOGIN,
    (_S.IN_LOGIN, _E.LOGIN_DONE): _S.LOGGED_IN,  # T5
    (_S.IN_LOGIN, _E.LOGIN_FAILED): _S.FREE,  # T7
    (_S.IN_LOGIN, _E.FAILED): _S.FREE,  # T7
    (_S.IN_LOGIN, _E.DISCONNECTED): _S.FREE,  # T7
    (_S.LOGGED_IN, _E.LOGOUT_REQUEST): _S.IN_LOGOUT,  # T10
    (_S.LOGGED_IN, _E.FAILED): _S.CLEANUP_WAIT,  # T15
    (_S.LOGGED_IN, _E.DISCONNECTED): _S.CLEANUP_WAIT,  # T15
    (_S.IN_LOGOUT, _E.LOGOUT_DONE): _S.CLEANUP_WAIT,  # T13, with nothing left to clean
    (_S.IN_LOGOUT, _E.FAILED): _S.CLEANUP_WAIT,  # T16
    (_S.IN_LOGOUT, _E.DISCONNECTED): _S.CLEANUP_WAIT,  # T16
    (_S.CLEANUP_WAIT, _E.FAILED): _S.CLEANUP_WAIT,
    (_S.CLEANUP_WAIT, _E.DISCONNECTED): _S.CLEANUP_WAIT,
    (_S.CLEANUP_WAIT, _E.CLEANED_UP): _S.FREE,  # M1
    (_S.FREE, _E.CLEANED_UP): _S.FREE,
    (_S.FREE, _E.DISCONNECTED): _S.FREE,
    (_S.FREE, _E.FAILED): _S.FREE,
}


def after(state: State, event: Event) -> State:
    """
    Return the state that *event* leads to.

    :raises KeyError: it cannot happen in this state.
    """
    return TRANSITIONS[state, event]
