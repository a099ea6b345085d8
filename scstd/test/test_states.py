# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.wire.states`: every row of the RFC's tables, and what is not
in them.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.wire.states import (
    SESSION_TRANSITIONS,
    TRANSITIONS,
    ConnectionState,
    Event,
    SessionEvent,
    SessionState,
    after,
    session_after,
)

CONNECTION = """\
FREE             . . T3 . . . . .
XPT_UP           T6 . . T4 . . . .
IN_LOGIN         T7 . . . T5 . . .
LOGGED_IN        T8 . . . . T9 T11 T15
IN_LOGOUT        T13 . . . . . . T17
LOGOUT_REQUESTED T18 . . . . T10 T12 T16
CLEANUP_WAIT     M1 . . . . . . . M2
IN_CLEANUP       M4 . . . . . . M3 ."""
"""
RFC 7143 sections 8.1.4 and 8.2 as tables: from (the line) to (the column) FREE,
XPT_WAIT, XPT_UP, IN_LOGIN, LOGGED_IN, IN_LOGOUT, LOGOUT_REQUESTED, CLEANUP_WAIT,
IN_CLEANUP.
"""

COLUMNS = (
    ConnectionState.FREE,
    None,
    ConnectionState.XPT_UP,
    ConnectionState.IN_LOGIN,
    ConnectionState.LOGGED_IN,
    ConnectionState.IN_LOGOUT,
    ConnectionState.LOGOUT_REQUESTED,
    ConnectionState.CLEANUP_WAIT,
    ConnectionState.IN_CLEANUP,
)

SESSION = """\
FREE        . N1 . . .
ACTIVE      N9 . N2 . .
LOGGED_IN   N3 . . N5 .
FAILED      N6 . . . N7
IN_CONTINUE N11 . N10 N8 ."""
"""
RFC 7143 section 8.3.2 as a table: from (the line) to (the column) FREE, ACTIVE,
LOGGED_IN, FAILED, IN_CONTINUE.
"""

SESSION_COLUMNS = (
    SessionState.FREE,
    SessionState.ACTIVE,
    SessionState.LOGGED_IN,
    SessionState.FAILED,
    SessionState.IN_CONTINUE,
)


class ConnectionStateTests(SynchronousTestCase):
    """
    The table of connection states.
    """

    def test_every_row(self) -> None:
        """Each transition of the RFC is there with its number, and no other."""
        expected = set()
        for line in CONNECTION.splitlines():
            name, *cells = line.split()
            for target, number in zip(COLUMNS, cells, strict=False):
                if number != ".":
                    assert target is not None
                    expected.add((ConnectionState[name], target, number))
        found = {
            (state, target, number)
            for (state, _event), (target, number) in TRANSITIONS.items()
            if number
        }
        self.assertEqual(found, expected)

    def test_legal(self) -> None:
        """Each row leads where it says."""
        for (state, event), (target, _number) in TRANSITIONS.items():
            self.assertIs(after(state, event), target)

    def test_without_number(self) -> None:
        """A row without a number changes nothing."""
        for (state, _event), (target, number) in TRANSITIONS.items():
            if not number:
                self.assertIs(state, target)

    def test_illegal(self) -> None:
        """What is in no row cannot happen."""
        illegal = 0
        for state in ConnectionState:
            for event in Event:
                if (state, event) not in TRANSITIONS:
                    illegal += 1
                    self.assertRaises(KeyError, after, state, event)
        self.assertEqual(illegal, len(ConnectionState) * len(Event) - len(TRANSITIONS))
        self.assertGreater(illegal, 70)


class SessionStateTests(SynchronousTestCase):
    """
    The table of session states.
    """

    def test_every_row(self) -> None:
        """Each transition of the RFC is there with its number, and no other."""
        expected = set()
        for line in SESSION.splitlines():
            name, *cells = line.split()
            for target, number in zip(SESSION_COLUMNS, cells, strict=True):
                if number != ".":
                    expected.add((SessionState[name], target, number))
        found = {
            (state, target, number)
            for (state, _event), (target, number) in SESSION_TRANSITIONS.items()
        }
        self.assertEqual(found, expected)

    def test_legal_and_illegal(self) -> None:
        """Each row leads where it says, and what is in no row cannot happen."""
        for state in SessionState:
            for event in SessionEvent:
                row = SESSION_TRANSITIONS.get((state, event))
                if row is None:
                    self.assertRaises(KeyError, session_after, state, event)
                else:
                    self.assertIs(session_after(state, event), row[0])
