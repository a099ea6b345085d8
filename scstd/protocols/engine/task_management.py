# SPDX-License-Identifier: MIT
"""
Task management functions (RFC 7143 sections 11.5 and 11.6, RFC 7144).

Each function is a row of `FUNCTIONS`; what is not there is not supported.  An answer
comes when the affected tasks can no longer touch data, on the connection on which the
request came.  The functions of RFC 7144 exist where iSCSIProtocolLevel 2 was agreed on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from scstd.protocols.engine import bidirectional, connection_cleanup, fast_abort
from scstd.protocols.engine.fast_abort import MULTI_TASK
from scstd.protocols.engine.retransmission import moved
from scstd.protocols.engine.write_recovery import RecoverableTransfer
from scstd.protocols.wire.codes import (
    IMMEDIATE,
    RESERVED_TAG,
    TaskManagementCode,
    TaskManagementResponseCode,
)
from scstd.protocols.wire.pdu import TaskManagementRequest, TaskManagementResponse
from scstd.protocols.wire.serial import less
from scstd.scsi.sam import (
    BidirectionalTask,
    ServiceResponse,
    Task,
    TaskManagementFunction,
)
from scstd.scsi.sense import asynchronous_event

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.session import Session

_CODE = TaskManagementResponseCode
_FUNCTION = TaskManagementCode

OF_SAM: dict[int, TaskManagementFunction] = {
    code: TaskManagementFunction[code.name]
    for code in TaskManagementCode
    if code is not _FUNCTION.TASK_REASSIGN
}
"""SAM-5's functions by RFC 7143's codes: all but the one that is iSCSI's alone."""

_FENCED = MULTI_TASK | {_FUNCTION.CLEAR_ACA}
"""
The functions whose response needs a fence (RFC 7143 section 4.2.2.3.4); with
TaskReporting=RFC3720 it is those of `MULTI_TASK` (section 4.2.3.3).
"""

_BY_CMD_SN = frozenset((_FUNCTION.ABORT_TASK_SET, _FUNCTION.CLEAR_TASK_SET))
"""
The functions that spare what was sent after them (RFC 7143 section 11.5.1); resets need
not.
"""

_RESPONSES = {
    ServiceResponse.FUNCTION_COMPLETE: _CODE.FUNCTION_COMPLETE,
    ServiceResponse.FUNCTION_REJECTED: _CODE.FUNCTION_REJECTED,
    ServiceResponse.INCORRECT_LOGICAL_UNIT_NUMBER: _CODE.LUN_DOES_NOT_EXIST,
}


def manage(
    session: Session, connection: Connection, pdu: TaskManagementRequest
) -> None:
    """
    Carry out a function that every earlier command came before.
    """
    number = pdu.flags & 0x7F
    function = FUNCTIONS.get(number)
    level = connection.parameters.iscsi_protocol_level
    session.managing[pdu.itt] = connection, pdu
    _report(session, pdu, "TM_FN_RECEIVED")
    if function is None or (number >= _FUNCTION.QUERY_TASK and level < 2):
        respond(session, connection, pdu, _CODE.FUNCTION_NOT_SUPPORTED)
    else:
        function(session, connection, pdu)


def respond(
    session: Session,
    connection: Connection,
    pdu: TaskManagementRequest,
    response: int,
    then: Callable[[], None] = lambda: None,
    information: bytes = bytes(3),
) -> None:
    """
    Answer a function, and call *then* when the answer is on its way; *information* is
    the Additional Response Information.
    """
    session.ordering.finished(pdu)
    session.managing.pop(pdu.itt, None)
    _report(session, pdu, "TM_FN_DONE", response=response)

    def send() -> None:
        if not connection.over:
            connection.send_pdu(
                TaskManagementResponse(
                    response=response,
                    additional_response_information=information,
                    itt=pdu.itt,
                )
            )
            if not connection.receiving:
                connection.wake()
        then()

    if session.closed or connection.over:
        then()
    elif session.fence is None:
        send()
    else:
        every = _FENCED if session.fence.always else MULTI_TASK
        fenced = pdu.flags & 0x7F in every
        session.fence.put(connection, pdu, send, fenced=fenced)


def name_of(pdu: TaskManagementRequest) -> str:
    """
    Return the name of a request's function.
    """
    number = pdu.flags & 0x7F
    if number in FUNCTIONS:
        return TaskManagementCode(number).name
    return f"FUNCTION {number}"


def _report(
    session: Session, pdu: TaskManagementRequest, name: str, **more: int
) -> None:
    session.node.report(
        name,
        function=name_of(pdu),
        target=session.nexus.target.name,
        initiator=session.initiator,
        lun=pdu.lun >> 48 & 0x3FFF,
        tag=pdu.itt,
        referenced_tag=pdu.referenced_task_tag,
        **more,
    )


def _abort_task(
    session: Session, connection: Connection, pdu: TaskManagementRequest
) -> None:
    """
    Abort one task, or a text negotiation (RFC 7143 section 11.5.1, and 11.6.1 for the
    answers); but no function, and no logout.
    """
    answer = partial(respond, session, connection, pdu)
    if _no_command(session, pdu.referenced_task_tag):
        answer(_CODE.FUNCTION_REJECTED)
        return
    for one in session.connections.values():
        if one.text is not None and one.text.itt == pdu.referenced_task_tag:
            one.negotiate(None)
            answer(_CODE.FUNCTION_COMPLETE)
            return
    task = session.tasks.get(pdu.referenced_task_tag)
    if task is not None:
        if not session.nexus.names(pdu.lun, task.itl):
            answer(_CODE.TASK_DOES_NOT_EXIST)
        else:
            task.itl.unit.abort([task], lambda: answer(_CODE.FUNCTION_COMPLETE))
        return
    if session.window.accepts(pdu.ref_cmd_sn) and less(pdu.ref_cmd_sn, pdu.cmd_sn):
        # It has not arrived, or not had its turn: from now on it counts as arrived, and
        # aborted; and so does its unsolicited data.
        session.writes.abandoned.add(pdu.referenced_task_tag, {RESERVED_TAG})
        session.ordering.skip(connection, pdu.ref_cmd_sn)
        answer(_CODE.FUNCTION_COMPLETE)
        return
    answer(_CODE.TASK_DOES_NOT_EXIST)


def _by_core(
    session: Session, connection: Connection, pdu: TaskManagementRequest
) -> None:
    """
    Have the SCSI core carry out what concerns more than one task.
    """
    function = pdu.flags & 0x7F
    later = _later(session, pdu) if function in _BY_CMD_SN else frozenset()
    wanted = OF_SAM[function]
    affected = fast_abort.affected(session, pdu, wanted, later)

    def done(response: ServiceResponse) -> None:
        fast_abort.tell(connection, affected)
        respond(session, connection, pdu, _RESPONSES[response], then)

    def then() -> None:
        if function == _FUNCTION.TARGET_COLD_RESET:
            session.node.cold_reset(session)
        elif function == _FUNCTION.I_T_NEXUS_RESET:
            # However long it was to outlive its connections (RFC 7144 section 6.3).
            session.end("I_T nexus reset")

    session.nexus.manage(wanted, pdu.lun, done, later)


def _later(session: Session, pdu: TaskManagementRequest) -> frozenset[Task]:
    """
    Return the tasks of a session that its initiator began after it sent a function:
    they came before it on another connection, and it is not about them.
    """
    if len(session.connections) < 2:
        return frozenset()
    return frozenset(
        task
        for task in session.tasks.values()
        if less(pdu.cmd_sn, task.context.cmd_sn)
        or (
            # An immediate command has the number of the next one that is not.
            task.context.cmd_sn == pdu.cmd_sn and not task.context.first & IMMEDIATE
        )
    )


def _no_command(session: Session, tag: int) -> bool:
    """
    Say whether a tag is that of a function, or of a logout, under way.
    """
    return tag in session.managing or any(
        tag in one.logouts for one in session.connections.values()
    )


def _never_reassigned(
    session: Session, connection: Connection, tag: int
) -> TaskManagementResponseCode | None:
    """
    Return what is wrong with any reassignment at this level, or of a task of this kind:
    a function, a logout, or a text negotiation.
    """
    if connection.parameters.error_recovery_level < 2:
        return _CODE.TASK_ALLEGIANCE_REASSIGNMENT_NOT_SUPPORTED
    texts = [one.text for one in session.connections.values()]
    if _no_command(session, tag) or any(text and text.itt == tag for text in texts):
        return _CODE.FUNCTION_REJECTED
    return None


def _task_reassign(
    session: Session, connection: Connection, pdu: TaskManagementRequest
) -> None:
    """
    Give a task of a connection that was logged out for recovery to this one (RFC 7143
    section 7.2.2).
    """
    tag = pdu.referenced_task_tag
    refusal = _never_reassigned(session, connection, tag)
    if refusal is not None:
        respond(session, connection, pdu, refusal)
        return
    lost = _lost(session, tag)
    if lost is not None and lost.logged_out:
        reassign = partial(_reassign, session, connection, tag, pdu.exp_data_sn)
        respond(session, connection, pdu, _CODE.FUNCTION_COMPLETE, reassign)
    elif lost is not None or tag in session.tasks:
        respond(session, connection, pdu, _CODE.TASK_STILL_ALLEGIANT)
    else:
        respond(session, connection, pdu, _CODE.TASK_DOES_NOT_EXIST)


def _lost(session: Session, tag: int) -> connection_cleanup.Lost | None:
    """
    Return the lost connection that has a task, or the answer to it.
    """
    task = session.tasks.get(tag)
    for lost in session.lost.values():
        old = lost.connection.recovery
        if (task is not None and task.done is lost.connection.done) or (
            old is not None and tag in old.answers
        ):
            return lost
    return None


def _reassign(
    session: Session, connection: Connection, tag: int, exp_data_sn: int = 0
) -> None:
    """
    Give a task of a lost connection to another one: after the answer that says so (RFC
    7143 section 7.2.2), which may have had to wait.
    """
    lost = _lost(session, tag)
    if lost is None or connection.over:
        return
    old = lost.connection.recovery
    answer = None if old is None else old.answers.pop(tag, None)
    task = session.tasks.get(tag)
    if answer is not None:
        moved(answer, connection, exp_data_sn)
    elif task is not None:
        _move(session, connection, task)
    connection_cleanup.settle(session, lost.connection)


def _move(session: Session, connection: Connection, task: Task) -> None:
    """
    Give a task to another connection, and ask there for what a write still needs.
    """
    tag = task.tag
    task.done = connection.done
    if isinstance(task, BidirectionalTask):
        bidirectional.prepare(connection)
    transfer = session.writes.transfers.get(tag)
    if isinstance(transfer, RecoverableTransfer):
        old = transfer.connection.recovery
        if old is not None and connection.recovery is not None:
            asked = old.asked_for.pop(tag, [])
            connection.recovery.asked_for[tag] = asked
        transfer.connection = connection
        transfer.since = connection.now
        transfer.forget_bursts()
        session.writes.advance(transfer)


def _query_task(
    session: Session, connection: Connection, pdu: TaskManagementRequest
) -> None:
    """
    Say whether a task is there; it goes over to this connection if its own was logged
    out for recovery (RFC 7144 section 6.3).
    """
    tag = pdu.referenced_task_tag
    if tag in session.managing:
        respond(session, connection, pdu, _CODE.FUNCTION_REJECTED)
        return
    nexus = session.nexus
    task = session.tasks.get(tag)
    if task is None or not nexus.names(pdu.lun, task.itl):
        there = pdu.lun in nexus.luns
        code = _CODE.FUNCTION_COMPLETE if there else _CODE.LUN_DOES_NOT_EXIST
        respond(session, connection, pdu, code)
        return
    lost = _lost(session, tag)
    if lost is not None and lost.logged_out:
        reassign = partial(_reassign, session, connection, tag)
        respond(session, connection, pdu, _CODE.FUNCTION_SUCCEEDED, reassign)
    else:
        respond(session, connection, pdu, _CODE.FUNCTION_SUCCEEDED)


def _query_task_set(
    session: Session, connection: Connection, pdu: TaskManagementRequest
) -> None:
    itl = session.nexus.luns.get(pdu.lun)
    if itl is None:
        respond(session, connection, pdu, _CODE.LUN_DOES_NOT_EXIST)
        return
    _tell(session, connection, pdu, there=bool(itl.unit.tasks_of(itl)))


def _query_asynchronous_event(
    session: Session, connection: Connection, pdu: TaskManagementRequest
) -> None:
    """
    Say whether a unit attention is pending, and which is reported first (SAM-5, QUERY
    ASYNCHRONOUS EVENT); it stays.
    """
    itl = session.nexus.luns.get(pdu.lun)
    if itl is None:
        respond(session, connection, pdu, _CODE.LUN_DOES_NOT_EXIST)
        return
    pending = itl.attentions
    information = asynchronous_event(pending)
    _tell(session, connection, pdu, there=bool(pending), information=information)


def _tell(
    session: Session,
    connection: Connection,
    pdu: TaskManagementRequest,
    *,
    there: bool,
    information: bytes = bytes(3),
) -> None:
    code = _CODE.FUNCTION_SUCCEEDED if there else _CODE.FUNCTION_COMPLETE
    respond(session, connection, pdu, code, information=information)


FUNCTIONS: dict[int, Callable[[Session, Connection, TaskManagementRequest], None]] = {
    _FUNCTION.ABORT_TASK: _abort_task,
    _FUNCTION.ABORT_TASK_SET: _by_core,
    _FUNCTION.CLEAR_ACA: _by_core,
    _FUNCTION.CLEAR_TASK_SET: _by_core,
    _FUNCTION.LOGICAL_UNIT_RESET: _by_core,
    _FUNCTION.TARGET_WARM_RESET: _by_core,
    _FUNCTION.TARGET_COLD_RESET: _by_core,
    _FUNCTION.TASK_REASSIGN: _task_reassign,
    _FUNCTION.QUERY_TASK: _query_task,
    _FUNCTION.QUERY_TASK_SET: _query_task_set,
    _FUNCTION.I_T_NEXUS_RESET: _by_core,
    _FUNCTION.QUERY_ASYNCHRONOUS_EVENT: _query_asynchronous_event,
}
"""The functions, by their numbers."""
