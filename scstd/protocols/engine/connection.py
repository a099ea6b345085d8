# SPDX-License-Identifier: MIT
"""
A target's side of one iSCSI connection, sans-IO.

Bytes and the time go in (`receive_data`, `tick`), PDUs come out (`output`): nothing
here touches a transport, a timer or the reactor.  Each PDU is looked up in `ROWS` by
its opcode: the row holds its method, the phases where it is legal, and whether CmdSN
orders it.  What is not in the table, or not in this phase, is rejected.

A session has one connection here, at error recovery level 0: a stream that cannot be
trusted any more (a wrong header digest, a segment that is too long) ends the connection
and with it the session, and the initiator logs in again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from scstd.interfaces import Buffer, Data
from scstd.protocols.engine.logging_in import LoginPhase
from scstd.protocols.engine.session import Session
from scstd.protocols.wire import framing
from scstd.protocols.wire.discovery import TextError, TextExchange
from scstd.protocols.wire.framing import Framer, FramingError
from scstd.protocols.wire.keys import Parameters
from scstd.protocols.wire.pdu import (
    CONTINUE,
    FINAL,
    IMMEDIATE,
    OPCODE,
    PDU,
    RESERVED_TAG,
    DataOut,
    LogoutReason,
    LogoutRequest,
    LogoutResponse,
    LogoutResponseCode,
    NOPIn,
    NOPOut,
    Reject,
    RejectReason,
    SCSICommand,
    SNACKRequest,
    TaskManagementRequest,
    TextRequest,
    TextResponse,
)
from scstd.protocols.wire.serial import MASK, CommandWindow, less
from scstd.protocols.wire.states import Event, State, after
from scstd.scsi.sam import TaskManagementFunction

if TYPE_CHECKING:
    from scstd.protocols.engine.node import Node

OUTPUT_BATCH = 65536
"""
Bytes of output that are sent before further PDUs are taken: the initiator can work on
the first answers while we work on the next, and memory stays bounded.
"""

IMMEDIATE_LIMIT = 64
"""Immediate commands that may be in progress at once in a session."""


class Phase:
    """
    Where a PDU is legal: bits (plain ones, for each PDU is looked at).
    """

    LOGIN = 1
    NORMAL = 2
    DISCOVERY = 4
    OVER = 8


@attrs.define
class Timers:
    """
    A connection's limits of time, in seconds; 0 switches one off.
    """

    login: float = 30.0
    nop_in_interval: float = 30.0
    nop_in_timeout: float = 30.0
    response: float = 90.0


class _Held(NamedTuple):
    """
    A PDU that came before its turn.
    """

    run: Callable[[Connection, Any], None]
    pdu: Any
    header: bytes
    damaged: bool


@attrs.define(eq=False, slots=False)
class Connection:
    """
    One connection.

    *certified* returns the initiators that the other end's certificate is good for,
    None if it may be any.

    *wake* is called when there is new output outside `receive_data`.  The transport
    sends `output` in order and then, if `over`, closes; it says in *sends_files*
    whether there may be a `FilePart` among it; *parts* is how many there are.  While it
    cannot keep up it sets `paused`, and calls `pump` when it can again.
    """

    node: Node
    wake: Callable[[], None]
    now: float
    peer: str = ""
    portal: str = ""
    certified: Callable[[], frozenset[str] | None] = lambda: None
    timers: Timers = attrs.field(factory=Timers)
    state: State = State.FREE
    phase: int = Phase.LOGIN
    framer: Framer = attrs.field(factory=Framer)
    parameters: Parameters = attrs.field(factory=Parameters)
    window: CommandWindow = attrs.field(factory=lambda: CommandWindow(0, 1))
    session: Session | None = None
    sends_files: bool = False
    parts: int = 0
    output: list[Data] = attrs.field(factory=list)
    output_bytes: int = 0
    stat_sn: int = 0
    cid: int = 0
    header_digest: bool = False
    data_digest: bool = False
    digests: bool = False
    receiving: bool = False
    paused: bool = False
    blocked_since: float | None = None
    over: bool = False
    why: str = ""
    login: LoginPhase = attrs.field(init=False)
    text: TextExchange | None = None
    reinstates: bool = False
    on_cleanup: list[Callable[[], None]] = attrs.field(factory=list)
    _held: dict[int, _Held] = attrs.field(factory=dict)
    _late: list[TaskManagementRequest] = attrs.field(factory=list)
    _current: _Held | None = None
    _received: float = 0.0
    _pinged: float | None = None
    _ping_ttt: int = 0
    _since: float = 0.0
    _immediate: int = 0

    def __attrs_post_init__(self) -> None:
        self.state = after(self.state, Event.ACCEPTED)
        self._received = self._since = self.now
        self.login = LoginPhase(self)

    # In.

    def receive_data(self, chunk: bytes, now: float) -> None:
        """
        Take in what the transport received at time *now*, in seconds.
        """
        self.now = self._received = now
        if self.over:
            return
        self.framer.feed(chunk)
        if not self.paused:
            self.pump()

    @property
    def stalled(self) -> bool:
        """
        Whether received PDUs wait because there is much output to be sent first.
        """
        return self.output_bytes >= OUTPUT_BATCH

    def pump(self) -> None:
        """
        Take the PDUs that are there, until the output is enough for now.
        """
        self.receiving = True
        following = self.framer.next
        try:
            while self.output_bytes < OUTPUT_BATCH and not self.over:
                pdu = following()
                if pdu is None:
                    break
                row = ROWS.get(pdu.first & OPCODE)
                if row is None or not row.phases & self.phase:
                    self._illegal(pdu)
                elif not row.numbered:
                    row.run(self, pdu)
                else:
                    self._in_order(row, pdu)
        except FramingError as error:
            self._unframed(str(error))
        finally:
            self.receiving = False

    def _in_order(self, row: Row, pdu: Any) -> None:
        """
        Run a PDU that has a CmdSN: now, when its turn comes, or never.
        """
        if self.framer.data_digest_failed and row.run is not Connection.on_command:
            self.reject(RejectReason.DATA_DIGEST_ERROR)
            return
        if pdu.first & IMMEDIATE:
            if self._immediate >= IMMEDIATE_LIMIT:
                self.reject(RejectReason.TOO_MANY_IMMEDIATE_COMMANDS)
                return
            self._immediate += 1
            row.run(self, pdu)
            return
        window = self.window
        if window.take(pdu.cmd_sn):
            row.run(self, pdu)
            if self._held or self._late:
                self._catch_up()
        elif window.accepts(pdu.cmd_sn):
            self._held.setdefault(
                pdu.cmd_sn,
                _Held(row.run, pdu, self.framer.header, self.framer.data_digest_failed),
            )
        # Outside the window: silently ignored (RFC 7143 section 4.2.2.1).

    def _catch_up(self) -> None:
        """
        Run what waited for the CmdSN that has now arrived.
        """
        window = self.window
        while window.exp_cmd_sn in self._held:
            held = self._held.pop(window.exp_cmd_sn)
            if not window.take(window.exp_cmd_sn):
                break
            self._current = held
            held.run(self, held.pdu)
            self._current = None
        late, self._late = self._late, []
        for pdu in late:
            self.on_task_management(pdu)

    def skip(self, cmd_sn: int) -> None:
        """
        Count a command that has not arrived as arrived and over (it was aborted).
        """
        self._held[cmd_sn] = _Held(
            lambda connection, _pdu: connection.window.finished(), None, b"", False
        )
        self._catch_up()

    @property
    def data_digest_failed(self) -> bool:
        """
        Whether the data segment of the PDU being run is damaged.
        """
        if self._current is not None:
            return self._current.damaged
        return self.framer.data_digest_failed

    def finished(self, pdu: Any) -> None:
        """
        Count a PDU with a CmdSN as over: the window opens, or an immediate one less.
        """
        if pdu.first & IMMEDIATE:
            self._immediate -= 1
        else:
            self.window.finished()

    # Out.

    def next_stat_sn(self) -> int:
        """
        Return the StatSN for an answer, and advance it.
        """
        stat_sn = self.stat_sn
        self.stat_sn = (stat_sn + 1) & MASK
        return stat_sn

    def send(self, header: bytes, data: Buffer = b"") -> None:
        """
        Append a PDU made of header segments and a data segment to the output.
        """
        self.output_bytes += len(header) + len(data)
        framing.append(
            self.output,
            header,
            data,
            header_digest=self.header_digest,
            data_digest=self.data_digest,
        )

    def send_pdu(self, pdu: Any, *, advance: bool = True) -> None:
        """
        Number a PDU and send it; *advance* StatSN when it carries a status.
        """
        pdu.stat_sn = self.next_stat_sn() if advance else self.stat_sn
        pdu.exp_cmd_sn = self.window.exp_cmd_sn
        pdu.max_cmd_sn = self.window.max_cmd_sn
        self.send(pdu.encode(), pdu.data)

    def reject(self, reason: RejectReason) -> None:
        """
        Send a Reject for the PDU being run (RFC 7143 section 11.17).
        """
        current = self._current
        header = self.framer.header if current is None else current.header
        self.send_pdu(Reject(reason=reason, data=header))

    def logged_in(self, parameters: Parameters) -> None:
        """
        Enter the full feature phase with what the login agreed on.
        """
        self.parameters = parameters
        self.header_digest = parameters.header_digest == "CRC32C"
        self.data_digest = parameters.data_digest == "CRC32C"
        self.digests = self.header_digest or self.data_digest
        self.framer.header_digest = self.header_digest
        self.framer.data_digest = self.data_digest
        self.framer.max_segment = parameters.max_recv_data_segment_length
        self.phase = Phase.DISCOVERY if self.session is None else Phase.NORMAL

    # What is wrong.

    def _illegal(self, pdu: PDU) -> None:
        if self.phase == Phase.LOGIN:
            self.login.intruded()
        elif self.phase != Phase.OVER:
            # A command that is refused has arrived all the same.
            cmd_sn = getattr(pdu, "cmd_sn", None)
            if cmd_sn is not None and not pdu.first & IMMEDIATE:
                if not self.window.take(cmd_sn):
                    return
                self.window.finished()
            known = pdu.first & OPCODE in ROWS
            self.reject(
                RejectReason.PROTOCOL_ERROR
                if known
                else RejectReason.COMMAND_NOT_SUPPORTED
            )

    def _unframed(self, why: str) -> None:
        if self.phase & (Phase.NORMAL | Phase.DISCOVERY) and "digest" not in why:
            self.reject(RejectReason.PROTOCOL_ERROR)
        self.fail(why)

    def fail(self, why: str) -> None:
        """
        Give the connection up: what is in `output` is still sent, then it closes.
        """
        if not self.over:
            self.why = why
            self.end(Event.FAILED)

    def end(self, event: Event) -> None:
        """
        Close after the output is sent; the session's tasks are aborted.
        """
        self.over = True
        self.phase = Phase.OVER
        self.state = after(self.state, event)
        self._held.clear()
        self._late.clear()
        if not self.receiving:
            self.wake()
        session, self.session = self.session, None
        if session is None:
            self._cleaned_up()
        elif not session.closed:
            self.node.forget(session)
            session.close(self._cleaned_up)

    def disconnected(self) -> None:
        """
        The transport connection is gone.
        """
        if not self.over:
            self.why = "the initiator closed the connection"
            self.end(Event.DISCONNECTED)

    def _cleaned_up(self) -> None:
        self.state = after(self.state, Event.CLEANED_UP)
        calls, self.on_cleanup = self.on_cleanup, []
        for call in calls:
            call()

    def when_clean(self, call: Callable[[], None]) -> None:
        """
        Call *call* when no task of this connection can touch data any more.
        """
        if self.over and self.state is State.FREE:
            call()
        else:
            self.on_cleanup.append(call)

    def tick(self, now: float) -> None:
        """
        Look at the timers; to be called every second or so.
        """
        self.now = now
        timers = self.timers
        if self.over:
            return
        if self.phase == Phase.LOGIN:
            self.login.tick(now)
            if timers.login and now - self._since > timers.login:
                self.end(Event.LOGIN_FAILED)
                self.why = "the login took too long"
            return
        if timers.response:
            before = now - timers.response
            blocked = self.blocked_since is not None and self.blocked_since < before
            if blocked or (self.session is not None and self.session.overdue(before)):
                self.fail("the initiator does not respond")
                return
        if self._pinged is not None:
            if self._received > self._pinged:
                self._pinged = None
            elif now - self._pinged > timers.nop_in_timeout:
                self.fail("the initiator does not answer our ping")
                return
        if (
            self._pinged is None
            and timers.nop_in_interval
            and now - self._received > timers.nop_in_interval
        ):
            self._ping(now)

    def _ping(self, now: float) -> None:
        if self.phase == Phase.DISCOVERY:
            self.fail("a discovery session was idle")
            return
        self._pinged = now
        self._ping_ttt = (self._ping_ttt + 1) % RESERVED_TAG
        self.send_pdu(NOPIn(ttt=self._ping_ttt), advance=False)
        self.wake()

    # PDUs of the full feature phase.

    def on_command(self, pdu: SCSICommand) -> None:
        """SCSI Command."""
        self.session.command(pdu)  # type: ignore[union-attr]

    def on_data_out(self, pdu: DataOut) -> None:
        """SCSI Data-Out."""
        self.session.data_out(pdu)  # type: ignore[union-attr]

    def on_task_management(self, pdu: TaskManagementRequest) -> None:
        """
        Task Management Function Request: it waits until every command before it has
        arrived (RFC 7143 section 4.2.2.1), an immediate one too.
        """
        early = pdu.first & IMMEDIATE and less(self.window.exp_cmd_sn, pdu.cmd_sn)
        if early and pdu.flags & 0x7F != TaskManagementFunction.ABORT_TASK:
            self._late.append(pdu)
            return
        self.session.task_management(pdu)  # type: ignore[union-attr]

    def on_nop_out(self, pdu: NOPOut) -> None:
        """
        NOP-Out: a ping to be echoed, or the answer to ours (RFC 7143 section 11.18).
        """
        self.finished(pdu)
        if pdu.itt == RESERVED_TAG:
            return
        longest = self.parameters.max_xmit_data_segment_length
        self.send_pdu(NOPIn(lun=pdu.lun, itt=pdu.itt, data=pdu.data[:longest]))

    def on_snack(self, pdu: SNACKRequest) -> None:  # noqa: ARG002 - as the others
        """SNACK Request: there is nothing to be retransmitted at level 0."""
        self.reject(RejectReason.SNACK_REJECT)

    def on_text(self, pdu: TextRequest) -> None:
        """
        Text Request: one exchange at a time, in as many PDUs as it takes.
        """
        self.finished(pdu)
        if self.text is None or pdu.ttt == RESERVED_TAG:
            self.text = self.node.text_exchange(self)
        try:
            reply = self.text.receive(
                bytes(pdu.data),
                final=bool(pdu.flags & FINAL),
                continue_=bool(pdu.flags & CONTINUE),
                ttt=pdu.ttt,
            )
        except TextError:
            self.text = None
            self.reject(RejectReason.PROTOCOL_ERROR)
            return
        if reply.final:
            self.text = None
        self.send_pdu(
            TextResponse(
                flags=(FINAL if reply.final else 0)
                | (CONTINUE if reply.continue_ else 0),
                lun=pdu.lun,
                itt=pdu.itt,
                ttt=reply.ttt,
                data=reply.data,
            )
        )

    def on_logout(self, pdu: LogoutRequest) -> None:
        """
        Logout Request: answered when the session's tasks are gone.
        """
        self.finished(pdu)
        if pdu.flags & 0x7F == LogoutReason.REMOVE_FOR_RECOVERY:
            self._log_out(pdu, LogoutResponseCode.RECOVERY_NOT_SUPPORTED)
            return
        if pdu.flags & 0x7F == LogoutReason.CLOSE_CONNECTION and pdu.cid != self.cid:
            self._log_out(pdu, LogoutResponseCode.CID_NOT_FOUND)
            return
        self.state = after(self.state, Event.LOGOUT_REQUEST)
        self.phase = Phase.OVER
        session = self.session
        if session is None:
            self._log_out(pdu, LogoutResponseCode.CLOSED)
        else:
            self.node.forget(session)
            session.close(lambda: self._log_out(pdu, LogoutResponseCode.CLOSED))

    def _log_out(self, pdu: LogoutRequest, response: LogoutResponseCode) -> None:
        if self.over:
            # The connection went before the last task did.
            self._cleaned_up()
            return
        self.send_pdu(LogoutResponse(response=response, itt=pdu.itt))
        if response == LogoutResponseCode.CLOSED:
            self.why = "logged out"
            self.session = None
            self.end(Event.LOGOUT_DONE)


class Row(NamedTuple):
    """
    What is done with a PDU, where it is legal, and whether CmdSN orders it.
    """

    run: Callable[[Connection, Any], None]
    phases: int
    numbered: bool


ROWS: dict[int, Row] = {
    0x00: Row(Connection.on_nop_out, Phase.NORMAL, numbered=True),
    0x01: Row(Connection.on_command, Phase.NORMAL, numbered=True),
    0x02: Row(Connection.on_task_management, Phase.NORMAL, numbered=True),
    0x03: Row(lambda c, pdu: c.login.receive(pdu), Phase.LOGIN, numbered=False),
    0x04: Row(Connection.on_text, Phase.NORMAL | Phase.DISCOVERY, numbered=True),
    0x05: Row(Connection.on_data_out, Phase.NORMAL, numbered=False),
    0x06: Row(Connection.on_logout, Phase.NORMAL | Phase.DISCOVERY, numbered=True),
    0x10: Row(Connection.on_snack, Phase.NORMAL, numbered=False),
}
