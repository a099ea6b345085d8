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
from scstd.protocols.wire.pdu import SCSICommand

if TYPE_CHECKING:
    from scstd.protocols.engine.session import Session
    from scstd.protocols.engine.tapped import Onward, TappedPDU


def begin(session: Session) -> None:
    """
    Take no further command of a session.
    """
    session.drain()


def leave_out(session: Session, passing: TappedPDU, go_on: Onward) -> None:
    """
    Take no command, nor its unsolicited data: a tap.
    """
    pdu = passing.pdu
    if not isinstance(pdu, SCSICommand):
        go_on(passing)
    elif not pdu.flags & FINAL:
        session.writes.abandoned.add(pdu.itt, {RESERVED_TAG})


def drained(sessions: Iterable[Session]) -> bool:
    """
    Say whether every command of these sessions has ended, and is answered.
    """
    return not any(
        session.tasks or (session.fence is not None and session.fence.held)
        for session in sessions
    )
