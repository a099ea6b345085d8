# SPDX-License-Identifier: MIT
"""
What a connection keeps at error recovery levels above 0, to send it again.

Everything that has a StatSN is kept until the initiator's ExpStatSN says that it has it
(RFC 7143 section 4.2.2.2).  The data of a read is kept as long as its status is, and so
are the R2Ts of a write; DataACK moves the point before which Data-In can not be asked
for any more (section 11.16).  A `RetainedAnswer` (`retained`) is all of that for one
command: it can be sent again as it was, cut anew, or sent on another connection.

What is kept is bounded.  Of the data the oldest goes first: a SNACK for it is rejected,
and the initiator repeats the command.  An initiator that acknowledges nothing is
pinged, for the answer carries ExpStatSN, and at last let go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scstd.interfaces import Buffer
from scstd.protocols.engine.response import residual_of
from scstd.protocols.engine.retained import RetainedAnswer, RetainedSegment
from scstd.protocols.engine.timers import ping
from scstd.protocols.wire.codes import (
    ACKNOWLEDGE,
    FINAL,
    OVERFLOW,
    READ,
    RESERVED_TAG,
    STATUS,
    WRITE,
)
from scstd.protocols.wire.pdu import R2T, DataIn, SCSICommand, SCSIResponse
from scstd.protocols.wire.serial import less
from scstd.scsi.sam import Status, Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, encode

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.tapped import Onward, TappedPDU

RETAINED_BYTES = 32 << 20
"""Bytes of Data-In that a connection keeps after they were sent."""

NODE_RETAINED = 256 << 20
"""The same for all connections of a node together: more than one's last answer goes."""

MAX_STATUS_BYTES = 4 << 20
"""Bytes of data of statuses that may be unacknowledged, but for Data-In."""

MAX_STATUSES = 8192
"""Statuses that may be unacknowledged; at half of it the initiator is pinged."""


@attrs.define(eq=False)
class Recovery:
    """
    What one connection keeps.
    """

    connection: Connection
    statuses: dict[
        int, tuple[bytes, Buffer | RetainedSegment, RetainedAnswer | None]
    ] = attrs.field(factory=dict)
    """The PDUs with a StatSN, by it, in order: header, data, and whose they are."""
    answers: dict[int, RetainedAnswer] = attrs.field(factory=dict)
    """Those of commands, by Initiator Task Tag."""
    asked_for: dict[int, list[R2T]] = attrs.field(factory=dict)
    """The R2Ts of the writes that are under way, by Initiator Task Tag."""
    retained: int = 0
    """Bytes of Data-In that are kept."""
    status_bytes: int = 0
    """Bytes of data of the other statuses."""

    def see(self, passing: TappedPDU, go_on: Onward) -> None:
        """
        Learn from a PDU's ExpStatSN what the initiator has: a tap.
        """
        exp_stat_sn = getattr(passing.pdu, "exp_stat_sn", None)
        if exp_stat_sn is not None:
            self.acknowledge(exp_stat_sn)
        go_on(passing)

    def acknowledge(self, exp_stat_sn: int) -> None:
        """
        Let go of every status before *exp_stat_sn*, and of what belongs to it.
        """
        statuses = self.statuses
        while statuses:
            first = next(iter(statuses))
            if not less(first, exp_stat_sn):
                return
            _header, data, answer = statuses.pop(first)
            if not isinstance(data, RetainedSegment):
                self.status_bytes -= len(data)
            if answer is not None:
                self.release(answer)

    def release(self, answer: RetainedAnswer) -> None:
        """
        Let go of an answer.
        """
        itt = answer.command.itt
        if self.answers.get(itt) is answer:
            del self.answers[itt]
        self._give_up(answer)

    def _give_up(self, answer: RetainedAnswer) -> None:
        if answer.data is not None:
            self._retain(-len(answer.data))
            answer.data = None

    def _retain(self, length: int) -> None:
        self.retained += length
        self.connection.node.unsent.kept += length

    def forget(self) -> None:
        """
        Let go of everything: the connection is over for good.
        """
        self.statuses.clear()
        self.answers.clear()
        self.asked_for.clear()
        self._retain(-self.retained)
        self.status_bytes = 0

    def retain(
        self,
        stat_sn: int,
        header: bytes,
        data: Buffer | RetainedSegment,
        answer: RetainedAnswer | None = None,
    ) -> None:
        """
        Keep a PDU that has a StatSN until it is acknowledged; of one that ends Data-In
        the data is the answer's.
        """
        statuses = self.statuses
        statuses[stat_sn] = (header, data, answer)
        if not isinstance(data, RetainedSegment):
            self.status_bytes += len(data)
        full = max(len(statuses) / MAX_STATUSES, self.status_bytes / MAX_STATUS_BYTES)
        if full > 0.5:
            if full > 1:
                self.connection.fail("the initiator acknowledges no status")
            elif self.connection.timers.pinged is None and not self.connection.over:
                ping(self.connection, self.connection.now)

    def asked(self, pdu: R2T) -> None:
        """
        Keep an R2T until its command is over.
        """
        self.asked_for.setdefault(pdu.itt, []).append(pdu)

    # Sending.

    def keep(
        self,
        command: SCSICommand,
        task: Task,
        data: Buffer,
        flag: int,
        residual: int,
        *,
        bidirectional_residual: int | None = None,
    ) -> None:
        """
        Keep and send the answer to a task; that of a bidirectional one has a residual
        of its Data-In.
        """
        session = self.connection.session
        self.add(
            RetainedAnswer(
                command,
                task.status,
                task.sense,
                flag,
                residual,
                data,
                session.writes.next_ttt() if session is not None else 0,
                self.asked_for.pop(task.tag, []),
                apart=bidirectional_residual is not None,
                bidirectional_residual=bidirectional_residual or 0,
            )
        )

    def add(self, answer: RetainedAnswer) -> None:
        """
        Keep an answer, and send it if there is a connection to send it on.
        """
        self.answers[answer.command.itt] = answer
        if answer.data is not None:
            self._retain(len(answer.data))
            unsent = self.connection.node.unsent
            for old in list(self.answers.values()):
                fits = self.retained <= RETAINED_BYTES and unsent.kept <= NODE_RETAINED
                if fits or old is answer:
                    break
                self._give_up(old)
        if not self.connection.over:
            answer.cut(self.connection)
            self.send(answer)

    def send(self, answer: RetainedAnswer) -> None:
        """
        Send what is not acknowledged of an answer, and its status.
        """
        for number in range(answer.acknowledged, len(answer.segments)):
            self.send_segment(answer, number)
        if answer.alone:
            self.send_status(answer)

    def send_segment(self, answer: RetainedAnswer, number: int) -> None:
        """
        Send one Data-In PDU, again or for the first time.
        """
        connection = self.connection
        segment = answer.segments[number]
        data = memoryview(answer.data or b"")[segment.at : segment.end]
        last = segment.flags & STATUS
        asks = segment.flags & ACKNOWLEDGE
        first_time = last and answer.stat_sn < 0
        if first_time:
            answer.stat_sn = connection.next_stat_sn()
        window = connection.window
        header = DataIn(
            flags=segment.flags,
            status=answer.status if last else 0,
            lun=answer.command.lun if asks else 0,
            itt=answer.command.itt,
            ttt=answer.ttt if asks else RESERVED_TAG,
            stat_sn=answer.stat_sn if last else 0,
            exp_cmd_sn=window.exp_cmd_sn,
            max_cmd_sn=window.max_cmd_sn,
            data_sn=answer.first + number,
            buffer_offset=segment.at,
            residual_count=answer.residual if last else 0,
            data=data,
        ).encode()
        if first_time:
            self.retain(answer.stat_sn, header, segment, answer)
        connection.send(header, data)

    def send_status(self, answer: RetainedAnswer) -> None:
        """
        Send the SCSI Response of an answer, again or for the first time.
        """
        connection = self.connection
        if answer.stat_sn < 0:
            answer.stat_sn = connection.next_stat_sn()
        sense = answer.sense
        if sense:
            sense = len(sense).to_bytes(2, "big") + sense
        window = connection.window
        header = SCSIResponse(
            flags=FINAL | answer.flag,
            status=answer.status,
            itt=answer.command.itt,
            snack_tag=answer.snack_tag,
            stat_sn=answer.stat_sn,
            exp_cmd_sn=window.exp_cmd_sn,
            max_cmd_sn=window.max_cmd_sn,
            exp_data_sn=len(answer.segments),
            bidi_residual_count=answer.bidirectional_residual,
            residual_count=answer.residual,
            data=sense,
        ).encode()
        self.retain(answer.stat_sn, header, sense, answer)
        connection.send(header, sense)

    def send_again(self, stat_sn: int) -> bool:
        """
        Send a PDU again as it was, but for ExpCmdSN and MaxCmdSN, which are what they
        are now; return False if its data was given up.
        """
        header, data, answer = self.statuses[stat_sn]
        if isinstance(data, RetainedSegment):
            if answer is None or answer.data is None:
                return False
            data = memoryview(answer.data)[data.at : data.end]
        window = self.connection.window
        numbers = window.exp_cmd_sn.to_bytes(4, "big") + window.max_cmd_sn.to_bytes(
            4, "big"
        )
        self.connection.send(header[:28] + numbers + header[36:], data)
        return True


def respond_recoverably(
    connection: Connection, task: Task, command: SCSICommand
) -> None:
    """
    Answer a task as `response.respond` does, and keep the answer.
    """
    recovery = connection.recovery
    assert recovery is not None
    data: Buffer = b""
    apart: int | None = None
    if task.status != Status.GOOD:
        if task.data_in and command.flags & READ:
            data, apart = task.data_in, 0
        flag, residual = residual_of(task.expected_length, len(data))
    elif command.flags & READ:
        data = task.data_in
        length = task.data_in_length if task.data_in_length >= 0 else len(data)
        flag, residual = residual_of(task.expected_length, length)
        if flag == OVERFLOW and len(data) > task.expected_length:
            data = memoryview(data)[: task.expected_length]
    else:
        expected = task.expected_length if command.flags & WRITE else 0
        length = task.data_out_length or max(task.data_in_length, len(task.data_in))
        flag, residual = residual_of(expected, length)
    recovery.keep(command, task, data, flag, residual, bidirectional_residual=apart)


def moved(answer: RetainedAnswer, connection: Connection, exp_data_sn: int) -> None:
    """
    Send an answer on another connection, to which its task was reassigned (RFC 7143
    section 11.5.6, ExpDataSN).

    If its data was given up the command ends as one whose SNACK is rejected (section
    11.4.7.2): it was promised that it ends (section 7.2.2).
    """
    assert connection.recovery is not None
    if answer.segments and answer.data is None:
        answer.segments.clear()
        answer.acknowledged = 0
        answer.status = Status.CHECK_CONDITION
        answer.sense = encode(
            CheckCondition(SenseKey.ABORTED_COMMAND, ASC.FAILED_RETRANSMISSION_REQUEST)
        )
        answer.bidirectional_residual = 0
        answer.flag, answer.residual = residual_of(
            answer.command.expected_data_transfer_length, 0
        )
    expected = exp_data_sn - answer.first
    if answer.acknowledged < expected <= len(answer.segments):
        answer.acknowledged = expected
    answer.stat_sn = -1
    # What the old connection's SNACK said does not hold here (section 7.2.2).
    answer.snack_tag = 0
    if answer.segments and answer.acknowledged == len(answer.segments):
        # All of the data is there: what is missing is the status alone.
        answer.apart = True
    connection.recovery.add(answer)
