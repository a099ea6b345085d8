# SPDX-License-Identifier: MIT
"""
The last moments of a target that stops on purpose: commands under way end with their
real status, further ones are not taken.

Not BUSY: a status is an answer, which an initiator may hand to its file system.  What
is not taken is not acknowledged either (ExpCmdSN stays), so the initiator knows that it
never began, and sends it again when it has logged in again: that is what it does when a
connection is lost.  Data-Out and task management still come through, for the commands
that have begun.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from scstd.protocols.wire.codes import FINAL, RESERVED_TAG
from scstd.protocols.wire.pdu import PDU, SCSICommand

if TYPE_CHECKING:
    from scstd.protocols.engine.session import Session


def begin(session: Session) -> None:
    """
    Take no further command of a session.
    """
    session.draining = True
    for connection in session.connections.values():
        connection.look_out()


def leave_out(session: Session, pdu: PDU) -> bool:
    """
    Say whether a PDU is not to be taken: a command, with its unsolicited data.
    """
    if not isinstance(pdu, SCSICommand):
        return False
    if not pdu.flags & FINAL:
        session.writes.abandoned.add(pdu.itt, {RESERVED_TAG})
    return True


def drained(sessions: Iterable[Session]) -> bool:
    """
    Say whether every command of these sessions has ended, and is answered.
    """
    return not any(
        session.tasks or (session.fence is not None and session.fence.held)
        for session in sessions
    )
