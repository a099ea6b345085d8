# SPDX-License-Identifier: MIT
"""
An initiator's session, sans-IO: bytes in, bytes out (RFC 7143).

`InitiatorSession.connect` begins a login on a connection, `execute` a command,
`request` whatever else has one answer; what comes of them is told by the functions that
were given with them.  Commands wait here until the target's window has room for them.
What the target asks for is answered: R2Ts, pings, requests to log out.

At error recovery level 0 the session ends with the first connection that is lost.
Above it ``recovery`` (`scstd.initiator.recovery`) asks for what does not come, and
whoever has the transports may give a lost connection's tasks to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.responses import HANDLERS
from scstd.initiator.session_base import SessionBase
from scstd.protocols.wire.framing import FramingError
from scstd.protocols.wire.serial import less

if TYPE_CHECKING:
    from scstd.initiator.recovery import SessionRecovery


class InitiatorSession(SessionBase):
    """
    One session with a target.
    """

    recovery: SessionRecovery | None
    """What it does about what gets lost; None at error recovery level 0."""

    def receive_data(self, connection: InitiatorConnection, chunk: bytes) -> None:
        """
        Take in what a connection's transport has received.
        """
        connection.receiving = True
        try:
            for pdu in connection.received(chunk):
                if connection.over:
                    return
                if not connection.damaged:
                    self.take(connection, pdu)
                elif self.recovery is None:
                    self.lost(connection, "a data digest is wrong")
        except FramingError as error:
            self.lost(connection, str(error))
        finally:
            connection.receiving = False

    def take(self, connection: InitiatorConnection, pdu: Any) -> None:
        """
        Take a PDU that has come whole.
        """
        handler = HANDLERS.get(type(pdu))
        if handler is None:
            self.lost(connection, f"the target sent {pdu}")
            return
        self._see_window(pdu)
        if self.recovery is None or connection.login is not None:
            connection.acknowledge(pdu)
            handler(self, connection, pdu)
        else:
            if self.recovery.see(connection, pdu):
                handler(self, connection, pdu)
            self.recovery.acknowledge(connection)
        if self.waiting:
            self.go_on()

    def _see_window(self, pdu: Any) -> None:
        if less(self.exp_cmd_sn, pdu.exp_cmd_sn):
            self.exp_cmd_sn = pdu.exp_cmd_sn
        if less(self.max_cmd_sn, pdu.max_cmd_sn):
            self.max_cmd_sn = pdu.max_cmd_sn
