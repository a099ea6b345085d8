# SPDX-License-Identifier: MIT
"""
SNACK: an initiator asks for what it has not got, or says what it has (RFC 7143 section
11.16).

A SNACK has no CmdSN and no answer of its own: what is asked for is sent again, as it
was but for ExpCmdSN and MaxCmdSN.  What was acknowledged, or never sent, gets a Reject
as a protocol error, which tells what the next number would be (section 11.17.2); what
was given up, one of the SNACK.  Who asks for everything from the next number on, and
there is nothing yet, is told nothing (appendix D.3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scstd.protocols.wire.codes import RESERVED_TAG, RejectReason, SNACKType
from scstd.protocols.wire.pdu import R2T, SNACKRequest
from scstd.protocols.wire.serial import add

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.retransmission import Recovery


def on_snack(connection: Connection, pdu: SNACKRequest) -> None:
    """SNACK Request."""
    recovery = connection.recovery
    if recovery is None:
        # There is nothing to be sent again at level 0.
        connection.reject(RejectReason.SNACK_REJECT)
        return
    answer = _ANSWERS.get(pdu.flags & 0x0F)
    reason = RejectReason.PROTOCOL_ERROR if answer is None else answer(recovery, pdu)
    if reason is not None:
        wrong_run = answer is _data and reason is RejectReason.PROTOCOL_ERROR
        connection.reject(reason, _following(recovery, pdu.itt) if wrong_run else 0)


def _following(recovery: Recovery, itt: int) -> int:
    """
    Return the next DataSN or R2TSN of a command; 0 if nothing is known of it.
    """
    answer = recovery.answers.get(itt)
    if answer is not None:
        return answer.first + len(answer.segments)
    return len(recovery.asked_for.get(itt, ()))


def _data(recovery: Recovery, pdu: SNACKRequest) -> RejectReason | None:
    answer = recovery.answers.get(pdu.itt)
    r2ts = recovery.asked_for.get(pdu.itt)
    begin, length = pdu.begin_run, pdu.run_length
    following = _following(recovery, pdu.itt)
    end = begin + length if length else following
    if begin > following or end > following:
        return RejectReason.PROTOCOL_ERROR
    if answer is None:
        if r2ts is None:
            return RejectReason.PROTOCOL_ERROR
        for number in range(begin, end):
            _ask_again(recovery, r2ts[number])
        return None
    # The R2Ts before its Data-In are answered: there is nothing to ask for any more.
    begin, end = max(begin - answer.first, 0), end - answer.first
    if not pdu.begin_run and not length:
        # All that is not acknowledged (section 11.16), if there is any.
        begin = answer.acknowledged
    elif not answer.acknowledged <= begin < len(answer.segments):
        return RejectReason.PROTOCOL_ERROR
    if answer.data is None and begin < end:
        return RejectReason.SNACK_REJECT
    for number in range(begin, end):
        recovery.send_segment(answer, number)
    return None


def _ask_again(recovery: Recovery, r2t: R2T) -> None:
    """
    Send an R2T again, if it is not answered yet.
    """
    connection = recovery.connection
    session = connection.session
    transfer = None if session is None else session.writes.transfers.get(r2t.itt)
    if transfer is not None and r2t.ttt in transfer.bursts:
        connection.send_pdu(r2t, advance=False)


def _status(recovery: Recovery, pdu: SNACKRequest) -> RejectReason | None:
    statuses = recovery.statuses
    begin = pdu.begin_run
    if not begin and not pdu.run_length:
        # All that is not acknowledged (section 11.16).
        begin = next(iter(statuses), recovery.connection.stat_sn)
    if begin not in statuses:
        # Acknowledged already, or never sent; at the end there is just nothing yet.
        at_end = begin == recovery.connection.stat_sn
        return None if at_end else RejectReason.PROTOCOL_ERROR
    count = pdu.run_length or len(statuses)
    for number in range(count):
        stat_sn = add(begin, number)
        if stat_sn not in statuses:
            break
        if not recovery.send_again(stat_sn):
            return RejectReason.SNACK_REJECT
    return None


def _data_ack(recovery: Recovery, pdu: SNACKRequest) -> RejectReason | None:
    for answer in recovery.answers.values():
        if answer.ttt == pdu.ttt:
            begin = pdu.begin_run - answer.first
            if pdu.run_length or not answer.acknowledged <= begin <= len(
                answer.segments
            ):
                break
            answer.acknowledged = begin
            return None
    else:
        # Its status was acknowledged meanwhile: the data was there before that.
        return None
    return RejectReason.INVALID_DATA_ACK


def _r_data(recovery: Recovery, pdu: SNACKRequest) -> RejectReason | None:
    """
    Cut the data anew: the initiator has changed its MaxRecvDataSegmentLength.
    """
    answer = recovery.answers.get(pdu.itt)
    if pdu.begin_run or pdu.run_length or pdu.ttt in {0, RESERVED_TAG}:
        # Neither is there a run, nor is that a tag (sections 11.16.5 to 11.16.7).
        return RejectReason.INVALID_PDU_FIELD
    if answer is None or not answer.segments:
        return RejectReason.PROTOCOL_ERROR
    if answer.data is None:
        return RejectReason.SNACK_REJECT
    # From now on only a SCSI Response with this tag counts (section 11.16.3).
    answer.snack_tag = pdu.ttt
    answer.apart = True
    answer.cut(recovery.connection)
    recovery.send(answer)
    return None


_ANSWERS: dict[int, Callable[[Recovery, SNACKRequest], RejectReason | None]] = {
    SNACKType.DATA: _data,
    SNACKType.STATUS: _status,
    SNACKType.DATA_ACK: _data_ack,
    SNACKType.R_DATA: _r_data,
}
