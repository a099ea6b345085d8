# SPDX-License-Identifier: MIT
"""
What breaks the protocol: PDUs that are not legal in their phase, and streams that can
not be cut into PDUs any more.

A stream that cannot be trusted (a wrong header digest, a segment that is too long) ends
the connection at every error recovery level: there is no way to find the next PDU in it
(RFC 7143 section 7.8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scstd.protocols.engine import async_message, dispatch
from scstd.protocols.engine.phase import Phase
from scstd.protocols.wire.codes import IMMEDIATE, OPCODE, RejectReason
from scstd.protocols.wire.pdu import PDU

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection


def illegal(connection: Connection, pdu: PDU) -> None:
    """
    Reject a PDU that is not known, or not legal in this phase.
    """
    if connection.phase == Phase.LOGIN:
        connection.login_phase.intruded()
    elif connection.phase != Phase.OVER:
        # It counts as one that has not come (section 7.3).
        cmd_sn = getattr(pdu, "cmd_sn", None)
        if (
            cmd_sn is not None
            and not pdu.first & IMMEDIATE
            and not connection.window.accepts(cmd_sn)
        ):
            return
        known = pdu.first & OPCODE in dispatch.ROWS
        connection.reject(
            RejectReason.PROTOCOL_ERROR if known else RejectReason.COMMAND_NOT_SUPPORTED
        )


def unframed(connection: Connection, why: str) -> None:
    """
    Give up a stream in which nobody knows where the next PDU begins.
    """
    if connection.phase == Phase.NORMAL and "digest" in why:
        # It is announced (section 4.2.6).
        async_message.drop_connection(connection, why)
        return
    if connection.phase & (Phase.NORMAL | Phase.DISCOVERY) and "digest" not in why:
        connection.reject(RejectReason.PROTOCOL_ERROR)
        if connection.session is not None:
            # A format error ends all connections of the session (section 7.7).
            connection.session.end(why)
            return
    connection.fail(why)
