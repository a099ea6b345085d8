# SPDX-License-Identifier: MIT
"""
A connection's timers: the login, our pings, an initiator that does not respond.

`tick` is called every second or so.  It looks; it owns no timer: the layers here know
the time only from what they are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine.phase import Phase
from scstd.protocols.wire.codes import RESERVED_TAG
from scstd.protocols.wire.pdu import NOPIn
from scstd.protocols.wire.states import ConnectionEvent

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection


@attrs.define
class Timers:
    """
    A connection's limits of time, in seconds; 0 switches one off.
    """

    login: float = 30.0
    """In which a login has to come to its end."""
    nop_in_interval: float = 30.0
    """Without a sign of the initiator, after which it is pinged."""
    nop_in_timeout: float = 30.0
    """In which it has to answer that."""
    response: float = 90.0
    """In which it has to take what there is for it, and send what it was asked for."""
    pinged: float | None = None
    """When it was pinged, if it has not answered yet."""
    ping_ttt: int = 0
    """The Target Transfer Tag of the last ping."""

    def tune(
        self, response: float, nop_in_interval: float, nop_in_timeout: float
    ) -> None:
        """
        Take a target's limits.
        """
        self.response = response
        self.nop_in_interval = nop_in_interval
        self.nop_in_timeout = nop_in_timeout


def tick(connection: Connection, now: float) -> None:
    """
    Look at the timers of one connection.
    """
    timers = connection.timers
    if connection.over:
        return
    if connection.phase == Phase.LOGIN:
        connection.login_phase.tick(now)
        if timers.login and now - connection.began > timers.login:
            connection.end(ConnectionEvent.LOGIN_FAILED, "the login took too long")
            connection.node.gave_up(connection)
        return
    if connection.framer.damaged:
        tell_damage(connection)
    session = connection.session
    if timers.response:
        before = now - timers.response
        since = connection.blocked_since
        blocked = since is not None and since < before
        if blocked or (session is not None and session.overdue(connection, before)):
            connection.fail("the initiator does not respond")
            return
    if session is not None and connection.recovery is not None:
        session.writes.ask_again(connection, now)
    _look_at_ping(connection, now)


def tell_damage(connection: Connection) -> None:
    """
    Tell that data came damaged since this was told last.
    """
    count = connection.framer.take_damaged()
    session = connection.session
    if count and session is not None:
        connection.node.report(
            "DIGEST_FAILED",
            target=session.nexus.target.name,
            initiator=session.initiator,
            peer=connection.peer,
            tsih=session.tsih,
            count=count,
        )


def _look_at_ping(connection: Connection, now: float) -> None:
    timers = connection.timers
    pinged = timers.pinged
    if pinged is not None:
        if connection.received > pinged:
            pinged = timers.pinged = None
        elif now - pinged > timers.nop_in_timeout:
            connection.fail("the initiator does not answer our ping")
            return
    if (
        pinged is None
        and timers.nop_in_interval
        and now - connection.received > timers.nop_in_interval
    ):
        if connection.phase == Phase.DISCOVERY:
            connection.fail("a discovery session was idle")
        else:
            ping(connection, now)


def ping(connection: Connection, now: float) -> None:
    """
    Send a NOP-In that wants an answer (RFC 7143 section 11.19).
    """
    timers = connection.timers
    timers.pinged = now
    timers.ping_ttt = (timers.ping_ttt + 1) % RESERVED_TAG
    connection.send_pdu(NOPIn(ttt=timers.ping_ttt), advance=False)
    if not connection.receiving:
        connection.wake()
