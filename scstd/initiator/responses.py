# SPDX-License-Identifier: MIT
"""
What an initiator does with what a target sends: a function for each PDU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.login import LoginRefused
from scstd.initiator.recovery import SessionRecovery
from scstd.protocols.wire.codes import (
    FINAL,
    OPCODE,
    RESERVED_TAG,
    AsyncEvent,
    LogoutReason,
)
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataIn,
    LoginResponse,
    LogoutResponse,
    NOPIn,
    Reject,
    SCSICommand,
    SCSIResponse,
    TaskManagementResponse,
    TextResponse,
)
from scstd.protocols.wire.serial import add

if TYPE_CHECKING:
    from scstd.initiator.session_base import SessionBase


def _login(
    session: SessionBase, connection: InitiatorConnection, pdu: LoginResponse
) -> None:
    login = connection.login
    if login is None:
        session.lost(connection, "the target sent a Login Response after the login")
        return
    connection.exp_stat_sn = add(pdu.stat_sn, 1)
    try:
        requests = login.receive(pdu)
    except LoginRefused as error:
        session.lost(connection, str(error), error)
        return
    connection.send(*requests)
    if not login.done:
        return
    connection.login, connection.full = None, True
    connection.agreed(login.parameters)
    connection.keys = login.keys
    if not session.tsih:
        session.tsih, session.parameters = login.tsih, login.parameters
        if login.parameters.error_recovery_level and session.options.target:
            session.recovery = SessionRecovery(session)
    connection.on_login(None)
    session.go_on()


def _data_in(
    session: SessionBase, connection: InitiatorConnection, pdu: DataIn
) -> None:
    task = session.task_of(connection, pdu.itt)
    if task is None:
        return
    task.take_data_in(pdu)
    if session.recovery is not None:
        session.recovery.see_data_in(connection, task, pdu)
    if task.ended:
        session.look(task)


def _response(
    session: SessionBase, connection: InitiatorConnection, pdu: SCSIResponse
) -> None:
    task = session.task_of(connection, pdu.itt)
    if task is not None:
        task.take_response(pdu)
        session.look(task)


def _r2t(session: SessionBase, connection: InitiatorConnection, pdu: R2T) -> None:
    task = session.task_of(connection, pdu.itt)
    if task is not None and pdu.r2t_sn not in task.r2ts and session.answers:
        task.r2ts.add(pdu.r2t_sn)
        connection.send(*task.solicited(pdu, session.longest_data_out(connection)))


def _nop_in(session: SessionBase, connection: InitiatorConnection, pdu: NOPIn) -> None:
    if pdu.itt != RESERVED_TAG:
        _answer(session, connection, pdu)
    elif pdu.ttt != RESERVED_TAG and session.answers:
        connection.send(session.pong(pdu.ttt, pdu.lun))


def _answer(session: SessionBase, _connection: InitiatorConnection, pdu: Any) -> None:
    asked = session.asked.pop(pdu.itt, None)
    if asked is not None:
        asked.answered(pdu)


def _logged_out(
    session: SessionBase, connection: InitiatorConnection, pdu: LogoutResponse
) -> None:
    asked = session.asked.get(pdu.itt)
    _answer(session, connection, pdu)
    if asked is None or pdu.response:
        return
    reason = asked.pdu.flags & ~FINAL
    if reason == LogoutReason.CLOSE_SESSION:
        session.end("logged out")
    elif reason == LogoutReason.CLOSE_CONNECTION:
        for one in list(session.connections):
            if one.cid == asked.pdu.cid:
                session.closed(one)


def _event(
    session: SessionBase, connection: InitiatorConnection, pdu: AsynchronousMessage
) -> None:
    session.on_event(pdu)
    if pdu.async_event == AsyncEvent.LOGOUT_REQUEST:
        if session.answers:
            session.asked_to_leave(connection)
    elif pdu.async_event == AsyncEvent.SESSION_DROP:
        session.end("the target ends the session")


def _reject(session: SessionBase, connection: InitiatorConnection, pdu: Reject) -> None:
    header = bytes(pdu.data)
    if len(header) < 20:
        return
    itt = int.from_bytes(header[16:20], "big")
    if session.recovery is not None and session.recovery.send_again(
        connection, header, pdu.reason
    ):
        return
    task = session.task_of(connection, itt)
    if header[0] & OPCODE == SCSICommand.opcode and task is not None:
        del session.tasks[itt]
        task.end(f"the target rejected it (reason {pdu.reason:#04x})")
    elif itt in session.asked:
        session.asked.pop(itt).answered(None)


HANDLERS: dict[type[Any], Callable[[SessionBase, InitiatorConnection, Any], None]] = {
    LoginResponse: _login,
    DataIn: _data_in,
    SCSIResponse: _response,
    R2T: _r2t,
    NOPIn: _nop_in,
    TextResponse: _answer,
    TaskManagementResponse: _answer,
    LogoutResponse: _logged_out,
    AsynchronousMessage: _event,
    Reject: _reject,
}
"""What is done with a PDU, by its type."""
