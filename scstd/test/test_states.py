# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.wire.states`: every row of the RFC's tables, and what is not
in them.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.wire.login import Admission, Login, Request
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.states import (
    LOGIN_TRANSITIONS,
    SESSION_TRANSITIONS,
    TRANSITIONS,
    ConnectionEvent,
    ConnectionState,
    LoginEvent,
    LoginStage,
    SessionEvent,
    SessionState,
    after,
    login_after,
    session_after,
)
from scstd.protocols.wire.text import encode

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


LOGIN = """\
NONE        . BEGIN_SECURITY BEGIN_OPERATIONAL .
SECURITY    . STAY TO_OPERATIONAL TO_FULL_FEATURE
OPERATIONAL . . STAY TO_FULL_FEATURE"""
"""
RFC 7143 section 11.12.3 as a table: what leads from (the line) to (the column) NONE,
SECURITY, OPERATIONAL, FULL_FEATURE.
"""


class Everybody:
    """
    A policy that lets everybody in.
    """

    def admit(self, login: Login) -> Admission:
        """Ask nothing."""
        return Admission(login.target_name)


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
            for event in ConnectionEvent:
                if (state, event) not in TRANSITIONS:
                    illegal += 1
                    self.assertRaises(KeyError, after, state, event)
        self.assertEqual(
            illegal, len(ConnectionState) * len(ConnectionEvent) - len(TRANSITIONS)
        )
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


class LoginStageTests(SynchronousTestCase):
    """
    The table of login stages.
    """

    def test_every_row(self) -> None:
        """Each transition of the RFC is there, and no other."""
        expected = set()
        for line in LOGIN.splitlines():
            name, *cells = line.split()
            for target, event in zip(LoginStage, cells, strict=True):
                if event != ".":
                    expected.add((LoginStage[name], LoginEvent[event], target))
        found = {
            (stage, event, login_after(stage, event))
            for stage, event in LOGIN_TRANSITIONS
        }
        self.assertEqual(found, expected)

    def begin(self, csg: int, nsg: int, *, transit: bool) -> Login:
        """Return a login after a first request with these stages."""
        login = Login(Everybody())
        names = encode([("InitiatorName", "iqn.2026-11.org:i")])
        login.receive(
            Request(
                csg=csg,
                nsg=nsg,
                transit=transit,
                continue_=False,
                version_min=0,
                isid=bytes(6),
                tsih=0,
                cid=0,
                itt=0,
                data=names + encode([("SessionType", "Discovery")]),
            )
        )
        return login

    def test_first_request(self) -> None:
        """A login's first exchange leads where the table says, from every CSG and NSG."""
        begins = {0: LoginEvent.BEGIN_SECURITY, 1: LoginEvent.BEGIN_OPERATIONAL}
        leaves = {1: LoginEvent.TO_OPERATIONAL, 3: LoginEvent.TO_FULL_FEATURE}
        legal = 0
        for case in range(32):
            csg, nsg, transit = case >> 3, case >> 1 & 3, bool(case & 1)
            event = leaves.get(nsg) if transit else LoginEvent.STAY
            try:
                stage = login_after(LoginStage.NONE, begins[csg])
                wanted = LOGIN_TRANSITIONS[stage, event][0]  # type: ignore[index]
            except KeyError:
                error = self.assertRaises(
                    LoginError, self.begin, csg, nsg, transit=transit
                )
                self.assertEqual(error.status, LoginStatus.INITIATOR_ERROR)
            else:
                legal += 1
                login = self.begin(csg, nsg, transit=transit)
                self.assertIs(login.stage, wanted, case)
        # T=0 with any NSG, and three ways to go on.
        self.assertEqual(legal, 2 * 4 + 3)
