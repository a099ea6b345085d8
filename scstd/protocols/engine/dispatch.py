# SPDX-License-Identifier: MIT
"""
What is done with each PDU of the full feature phase, and where it is legal: `ROWS`.

The functions here take what belongs to the connection itself: pings, texts, logouts.
Commands, their data and their management go to the session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from scstd.protocols.engine import connection_cleanup, fast_abort, snack
from scstd.protocols.engine.phase import Phase
from scstd.protocols.wire.codes import (
    CONTINUE,
    FINAL,
    IMMEDIATE,
    RESERVED_TAG,
    LogoutReason,
    LogoutResponseCode,
    RejectReason,
    TaskManagementCode,
)
from scstd.protocols.wire.discovery import TextError
from scstd.protocols.wire.framing import own
from scstd.protocols.wire.pdu import (
    DataOut,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    NOPOut,
    SCSICommand,
    TaskManagementRequest,
    TextRequest,
    TextResponse,
)
from scstd.protocols.wire.serial import less
from scstd.protocols.wire.states import ConnectionEvent
from scstd.scsi.sam import PRIORITY_SHIFT

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.tapped import Onward, TappedPDU

_CODE = LogoutResponseCode
_REMOVE = LogoutReason.REMOVE_FOR_RECOVERY


def on_command(connection: Connection, pdu: SCSICommand) -> None:
    """SCSI Command."""
    connection.session.command(connection, pdu)  # type: ignore[union-attr]


def see_priority(passing: TappedPDU, go_on: Onward) -> None:
    """
    Put the PRI field of a SCSI Command (RFC 7144) where the task's attribute is: a tap.
    Without iSCSIProtocolLevel 2 the field is not there.
    """
    pdu = passing.pdu
    if type(pdu) is SCSICommand:
        pdu.flags |= (passing.header[2] >> 4) << PRIORITY_SHIFT
    go_on(passing)


def on_data_out(connection: Connection, pdu: DataOut) -> None:
    """SCSI Data-Out."""
    connection.session.writes.data_out(connection, pdu)  # type: ignore[union-attr]


def on_task_management(connection: Connection, pdu: TaskManagementRequest) -> None:
    """
    Task Management Function Request: it waits until every command before it has arrived
    (RFC 7143 section 4.2.3.3), an immediate one too.
    """
    early = pdu.first & IMMEDIATE and less(connection.window.exp_cmd_sn, pdu.cmd_sn)
    if early and pdu.flags & 0x7F not in {
        TaskManagementCode.ABORT_TASK,
        TaskManagementCode.TASK_REASSIGN,
    }:
        connection.ordering.deferred.append((connection, pdu))
        return
    connection.manage(pdu)


def on_nop_out(connection: Connection, pdu: NOPOut) -> None:
    """
    NOP-Out: a ping to be echoed, or the answer to ours (RFC 7143 section 11.18).
    """
    connection.ordering.finished(pdu)
    if pdu.itt == RESERVED_TAG:
        fast_abort.acknowledge(connection, pdu)
        return
    longest = connection.parameters.max_xmit_data_segment_length
    # Without a Target Transfer Tag the LUN field is reserved, whatever came in it.
    connection.send_pdu(NOPIn(itt=pdu.itt, data=own(pdu.data[:longest])))


def on_text(connection: Connection, pdu: TextRequest) -> None:
    """
    Text Request: one exchange at a time, in as many PDUs as it takes.
    """
    exchange = connection.text
    if pdu.ttt == RESERVED_TAG:
        exchange = connection.node.text_exchange(connection, pdu.itt)
        connection.negotiate(exchange)
    elif exchange is None or pdu.ttt != exchange.ttt:
        # A tag that was never given out, or is not valid any more.
        connection.ordering.refuse(pdu)
        connection.reject(RejectReason.INVALID_PDU_FIELD)
        return
    try:
        reply = exchange.receive(
            bytes(pdu.data),
            final=bool(pdu.flags & FINAL),
            continue_=bool(pdu.flags & CONTINUE),
            itt=pdu.itt,
        )
    except TextError:
        connection.negotiate(None)
        connection.ordering.refuse(pdu)
        connection.reject(RejectReason.PROTOCOL_ERROR)
        return
    connection.ordering.finished(pdu)
    if reply.final:
        connection.negotiate(None)
    connection.send_pdu(
        TextResponse(
            flags=(FINAL if reply.final else 0) | (CONTINUE if reply.continue_ else 0),
            lun=0 if reply.final else pdu.lun,
            itt=pdu.itt,
            ttt=reply.ttt,
            data=reply.data,
        )
    )


def _reason(pdu: LogoutRequest) -> int:
    return pdu.flags & 0x7F


def on_logout(connection: Connection, pdu: LogoutRequest) -> None:
    """
    Logout Request: answered when the tasks that it ends are gone (RFC 7143 section
    11.14).
    """
    reason = _reason(pdu)
    session = connection.session
    if reason > _REMOVE or (session is None and reason != LogoutReason.CLOSE_SESSION):
        # A reserved value (section 11), or nothing for discovery (section 4.3).
        connection.ordering.refuse(pdu)
        connection.reject(RejectReason.PROTOCOL_ERROR)
        return
    connection.ordering.finished(pdu)
    connection.logouts.add(pdu.itt)
    if reason == _REMOVE:
        _remove_for_recovery(connection, pdu)
    elif session is None or reason == LogoutReason.CLOSE_SESSION:
        _close_session(connection, pdu)
    elif pdu.cid == connection.cid:
        if len(session.connections) == 1:
            _close_session(connection, pdu)
        else:
            _leave_session(connection, pdu)
    elif not connection_cleanup.close_other(
        session, pdu.cid, lambda: _respond(connection, pdu, _CODE.CLOSED)
    ):
        _respond(connection, pdu, _CODE.CID_NOT_FOUND)


def _close_session(connection: Connection, pdu: LogoutRequest) -> None:
    connection.happened(ConnectionEvent.LOGOUT_REQUEST)
    connection.take_no_more()
    session = connection.session
    if session is None:
        _log_out(connection, pdu)
    else:
        others = [one for one in session.connections.values() if one is not connection]
        for other in others:
            other.take_no_more()

        def gone() -> None:
            for other in others:
                other.closed_elsewhere("the session was logged out")
            _log_out(connection, pdu)

        session.close(gone)


def _leave_session(connection: Connection, pdu: LogoutRequest) -> None:
    connection.happened(ConnectionEvent.LOGOUT_REQUEST)
    connection.take_no_more()
    assert connection.session is not None
    connection_cleanup.abandon(
        connection.session, connection, lambda: _log_out(connection, pdu)
    )


def _remove_for_recovery(connection: Connection, pdu: LogoutRequest) -> None:
    """
    Keep the tasks of a connection until they are reassigned (section 7.2.2).
    """
    session = connection.session
    assert session is not None
    supported = connection.parameters.error_recovery_level == 2
    if pdu.cid == connection.cid:
        connection.happened(ConnectionEvent.LOGOUT_REQUEST)
        connection.give_reason("logged out for recovery")
        if supported:
            _respond(connection, pdu, _CODE.CLOSED)
            connection.end(ConnectionEvent.LOGOUT_DONE, logged_out=True)
        else:
            # Its initiator sends nothing on it any more (T17).
            _respond(connection, pdu, _CODE.RECOVERY_NOT_SUPPORTED)
            connection.end(ConnectionEvent.LOGOUT_FAILED)
    elif not supported:
        _respond(connection, pdu, _CODE.RECOVERY_NOT_SUPPORTED)
    elif connection_cleanup.remove_other(session, pdu.cid, connection.now):
        _respond(connection, pdu, _CODE.CLOSED)
    else:
        _respond(connection, pdu, _CODE.CID_NOT_FOUND)


def _respond(
    connection: Connection, pdu: LogoutRequest, response: LogoutResponseCode
) -> None:
    if connection.over:
        return
    connection.logouts.discard(pdu.itt)
    session = connection.session
    kept = (
        session is not None
        and not session.closed
        # What was closed is gone with its tasks (section 11.15.4).
        and (response != _CODE.CLOSED or _reason(pdu) == _REMOVE)
    )
    connection.send_pdu(
        LogoutResponse(
            response=response,
            itt=pdu.itt,
            time2wait=connection.parameters.default_time2wait,
            time2retain=session.retains if session is not None and kept else 0,
        )
    )
    if not connection.receiving:
        connection.wake()


def _log_out(connection: Connection, pdu: LogoutRequest) -> None:
    """
    Answer a logout that closes this connection: nothing of it is left.
    """
    if connection.over:
        # The connection went before the last task did.
        return
    _respond(connection, pdu, _CODE.CLOSED)
    connection.give_reason("logged out")
    session = connection.session
    if session is not None and not session.closed:
        # Nothing is left to be cleaned up: only this connection goes.
        connection_cleanup.take_out(session, connection)
    connection.leave_session()
    connection.end(ConnectionEvent.LOGOUT_DONE)


class DispatchRow(NamedTuple):
    """
    What is done with a PDU, where it is legal, and whether CmdSN orders it.
    """

    run: Callable[[Connection, Any], None]
    phases: int
    numbered: bool


ROWS: dict[int, DispatchRow] = {
    0x00: DispatchRow(on_nop_out, Phase.NORMAL, numbered=True),
    0x01: DispatchRow(on_command, Phase.NORMAL, numbered=True),
    0x02: DispatchRow(on_task_management, Phase.NORMAL, numbered=True),
    0x03: DispatchRow(
        lambda c, pdu: c.login_phase.receive(pdu), Phase.LOGIN, numbered=False
    ),
    0x04: DispatchRow(on_text, Phase.NORMAL | Phase.DISCOVERY, numbered=True),
    0x05: DispatchRow(on_data_out, Phase.NORMAL, numbered=False),
    0x06: DispatchRow(on_logout, Phase.NORMAL | Phase.DISCOVERY, numbered=True),
    0x10: DispatchRow(snack.on_snack, Phase.NORMAL, numbered=False),
}
