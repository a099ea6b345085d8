# SPDX-License-Identifier: MIT
"""
The engine goes through the tables of `scstd.protocols.wire.states`: every row of them is
a step that some connection, or session, really takes, and each story takes the steps
that RFC 7143 section 8 has for it, in that order.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10
from scstd.protocols.engine import async_message
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.engine.session import Session
from scstd.protocols.wire import states
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.states import ConnectionState
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import ManualStore

NAMES = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]

STORIES = """\
nothing_sent         T3 T6
stranger             T3 T6
waits_for_ever       T3 T6
gone_in_login        T3 T4 N1 T7 N9
too_long_in_login    T3 T4 N1 T7 N9
refused              T3 T4 N1 T7 N9
discovery            T3 T4 N1 N2 T5 T9 T13 N3
logout               T3 T4 N1 N2 T5 T9 N3 T13
two_requests         T3 T4 N1 N2 T5
given_up             T3 T4 N1 N2 T5 T15 N3 M1
disconnected         T3 T4 N1 N2 T5 T15 N3 M1
asked_and_logs_out   T3 T4 N1 N2 T5 T11 T12 T10 N3 T13
asked_and_fails      T3 T4 N1 N2 T5 T11 N3 T16 M1
asked_and_goes       T3 T4 N1 N2 T5 T11 T16 N3 M1
recovery_refused     T3 T4 N1 N2 T5 T9 T17 N3 M1
gone_in_logout       T3 T4 N1 N2 T5 T9 N3 T17 M1
failed_in_logout     T3 T4 N1 N2 T5 T9 N3 T17 M1
other_logs_out       T3 T4 N1 N2 T5 T3 T4 T5 T9 N3 T8 T13
other_logs_out_asked T3 T4 N1 N2 T5 T3 T4 T5 T11 T9 N3 T18 T13
both_log_out         T3 T4 N1 N2 T5 T3 T4 T5 T9 T9 N3 T13 T13
closed_in_logout     T3 T4 N1 N2 T5 T3 T4 T5 T9 T13 T9 N3 T13
session_retained     T3 T4 N1 N2 T5 T15 N5 M1 N6
session_reinstated   T3 T4 N1 N2 T5 T15 N5 M1 T3 T4 N1 N6 N2 T5
continued            T3 T4 N1 N2 T5 T15 N5 M1 T3 T4 N7 N10 T5
not_continued        T3 T4 N1 N2 T5 T15 N5 T3 T4 N7 T7 N8 M1
continued_too_late   T3 T4 N1 N2 T5 T15 N5 T3 T4 N7 T3 T4 N1 N11 M1 T7 N2 T5
logged_out_elsewhere T3 T4 N1 N2 T5 T3 T4 T5 T15 M2 M4
reinstated           T3 T4 N1 N2 T5 T3 T4 T5 T15 T3 T4 M2 M4 T5
not_reinstated       T3 T4 N1 N2 T5 T3 T4 T5 T15 T3 T4 M2 M4 T5 T15 T3 T4 M2 T7 M3
logs_itself_out      T3 T4 N1 N2 T5 T9 T13 N5"""
"""Each story, and its steps by the RFC's numbers, whoever takes them."""


class Recorder(dict[Any, Any]):
    """
    A table that remembers which of its rows were used.
    """

    def __init__(self, table: dict[Any, Any], steps: list[Any]) -> None:
        super().__init__(table)
        self.steps = steps

    def __getitem__(self, key: Any) -> Any:
        row = super().__getitem__(key)
        self.steps.append((key, row[1]))
        return row


class StepTests(SynchronousTestCase):
    """
    What connections and sessions go through.
    """

    def setUp(self) -> None:
        """Remember the steps."""
        self.steps: list[tuple[Any, str]] = []
        for name in ("TRANSITIONS", "SESSION_TRANSITIONS"):
            self.patch(states, name, Recorder(getattr(states, name), self.steps))

    def serve(self, retain: int = 0, level: int = 0) -> None:
        """Make a node whose store waits."""
        local = {
            **LOCAL,
            "MaxConnections": 4,
            "DefaultTime2Retain": retain,
            "ErrorRecoveryLevel": level,
        }
        self.store = ManualStore()
        self.node, _target, _units = serve(
            self.store, limits=TargetSettings(local=local)
        )

    def log_in(self, retain: int = 0, level: int = 0) -> Initiator:
        """Serve, and return the first connection of a session."""
        self.serve(retain, level)
        one = Initiator(self.node)
        one.login(
            MaxConnections="4",
            DefaultTime2Wait="0",
            DefaultTime2Retain="20",
            ErrorRecoveryLevel=str(level),
        )
        one.do(bytes(6))
        return one

    def join(self, cid: int) -> Initiator:
        """Return a further connection of the session, its login sent."""
        more = Initiator(self.node)
        more.cmd_sn = self.session.window.exp_cmd_sn
        tsih = self.session.tsih
        more.send(more.login_request(NAMES, tsih=tsih, cid=cid))
        return more

    @property
    def session(self) -> Session:
        """The session there is."""
        (session,) = self.node.sessions()
        return session

    def busy(self, one: Initiator) -> None:
        """Have a command under way."""
        one.send(one.command(read10(0, 1), read=512))

    # The stories.

    def nothing_sent(self) -> None:
        """Somebody connects and goes."""
        self.serve()
        Initiator(self.node).connection.disconnected()

    def stranger(self) -> None:
        """Something else than iSCSI."""
        self.serve()
        Initiator(self.node).feed(bytes(48))

    def waits_for_ever(self) -> None:
        """Nobody logs in."""
        self.serve()
        Initiator(self.node).connection.tick(100)

    def gone_in_login(self) -> None:
        """The initiator goes during its login."""
        self.serve()
        one = Initiator(self.node)
        one.send(one.login_request(NAMES, flags=0x04))
        one.connection.disconnected()

    def too_long_in_login(self) -> None:
        """A PDU that is longer than any in a login."""
        self.serve()
        one = Initiator(self.node)
        one.send(one.login_request(NAMES, flags=0x04))
        one.feed(b"\x43\x04\0\0\0\xff\xff\xff" + bytes(40))

    def refused(self) -> None:
        """A login that is refused."""
        self.serve()
        one = Initiator(self.node)
        one.send(one.login_request(NAMES[:1], flags=0x04))

    def discovery(self) -> None:
        """Discovery, from login to logout."""
        self.serve()
        one = Initiator(self.node)
        one.login(None)
        one.logout()

    def logout(self) -> None:
        """A session, from login to logout."""
        self.log_in().logout()

    def two_requests(self) -> None:
        """A login in two requests."""
        self.serve()
        one = Initiator(self.node)
        one.send(one.login_request(NAMES, flags=0x04))
        one.send(one.login_request([]))

    def given_up(self) -> None:
        """A connection whose initiator breaks the protocol."""
        self.log_in().connection.fail("nonsense")

    def disconnected(self) -> None:
        """A connection that is lost, where nothing is retained."""
        self.log_in().connection.disconnected()

    def asked(self) -> Initiator:
        """Return a connection that was asked for a logout."""
        one = self.log_in()
        async_message.ask_for_logout(one.connection, 3)
        return one

    def asked_and_logs_out(self) -> None:
        """Asked twice for a logout, the initiator logs out."""
        one = self.asked()
        async_message.ask_for_logout(one.connection, 3)
        one.logout()

    def asked_and_fails(self) -> None:
        """Asked for a logout, it is dropped in the end."""
        self.asked()
        self.session.end("too late")

    def asked_and_goes(self) -> None:
        """Asked for a logout, it just goes."""
        self.asked().connection.disconnected()

    def recovery_refused(self) -> None:
        """A removal for recovery, below level 2."""
        self.log_in().logout(reason=2)

    def logging_out(self) -> Initiator:
        """Return a connection whose logout waits for a task."""
        one = self.log_in()
        self.busy(one)
        one.logout_sent()
        return one

    def gone_in_logout(self) -> None:
        """The initiator does not wait for the answer to its logout."""
        self.logging_out().connection.disconnected()
        self.store.go()

    def failed_in_logout(self) -> None:
        """The connection is given up during a logout."""
        self.logging_out().connection.fail("it took too long")
        self.store.go()

    def other_logs_out(self) -> None:
        """One connection logs the session out."""
        one = self.log_in()
        self.join(1)
        one.logout()

    def other_logs_out_asked(self) -> None:
        """The same when the other was asked for a logout."""
        one = self.log_in()
        async_message.ask_for_logout(self.join(1).connection, 3)
        one.logout()

    def both_log_out(self) -> None:
        """One connection closes, and meanwhile the other closes the session."""
        one = self.log_in()
        two = self.join(1)
        self.busy(two)
        two.logout_sent(reason=1, cid=1)
        one.logout_sent()
        self.store.go()

    def closed_in_logout(self) -> None:
        """A connection is closed for another while its logout waits for a task."""
        one = self.log_in()
        two = self.join(1)
        self.busy(two)
        two.logout_sent(reason=1, cid=1)
        two.connection.closed_elsewhere("the session was logged out")
        one.logout_sent()
        self.store.go()

    def session_retained(self) -> None:
        """A session that nobody continues."""
        self.log_in(retain=20).connection.disconnected()
        self.node.tick(100)

    def session_reinstated(self) -> None:
        """A session that is begun anew instead."""
        self.log_in(retain=20).connection.disconnected()
        Initiator(self.node).login()

    def continued(self) -> None:
        """A session that is continued."""
        self.log_in(retain=20).connection.disconnected()
        self.join(5)

    def not_continued(self) -> None:
        """The login that is to continue it goes."""
        one = self.log_in(retain=20)
        self.busy(one)
        one.connection.disconnected()
        self.join(0).connection.disconnected()
        self.store.go()

    def continued_too_late(self) -> None:
        """It is begun anew while a login is to continue it."""
        one = self.log_in(retain=20)
        self.busy(one)
        one.connection.disconnected()
        self.join(0)
        again = Initiator(self.node)
        again.send(again.login_request(NAMES))
        self.store.go()

    def logged_out_elsewhere(self) -> None:
        """At level 2 a lost connection is logged out on another."""
        one = self.log_in(retain=20, level=2)
        two = self.join(1)
        self.busy(one)
        one.connection.disconnected()
        two.logout(reason=2)

    def reinstated(self) -> None:
        """At level 2 a login takes the place of a lost connection."""
        one = self.log_in(retain=20, level=2)
        self.join(1)
        self.busy(one)
        one.connection.disconnected()
        self.join(0)

    def not_reinstated(self) -> None:
        """
        At level 2 that login goes before it is done: it waits for the tasks of a
        connection with its CID whose time was over.
        """
        one = self.log_in(retain=20, level=2)
        self.join(1)
        self.busy(one)
        one.connection.disconnected()
        two = self.join(0)
        self.busy(two)
        two.connection.now = 15.0
        two.connection.disconnected()
        self.node.tick(25)
        self.join(0).connection.disconnected()
        self.assertIs(two.connection.state, ConnectionState.CLEANUP_WAIT)

    def logs_itself_out(self) -> None:
        """At level 2 a connection removes itself for recovery."""
        one = self.log_in(retain=20, level=2)
        self.busy(one)
        one.logout(reason=2)

    # What there is to see.

    def told(self, story: str) -> list[Any]:
        """Tell a story; return its steps."""
        self.steps.clear()
        getattr(self, story)()
        return list(self.steps)

    def test_stories(self) -> None:
        """Each story takes the steps that the RFC has for it."""
        for line in STORIES.splitlines():
            story, *numbers = line.split()
            found = [number for _row, number in self.told(story) if number]
            self.assertEqual(found, numbers, story)

    def test_every_row(self) -> None:
        """There is no row that nothing goes through."""
        used: set[Any] = set()
        for line in STORIES.splitlines():
            used.update(row for row, _number in self.told(line.split()[0]))
        rows = {*states.TRANSITIONS, *states.SESSION_TRANSITIONS}
        self.assertEqual(rows - used, set())
