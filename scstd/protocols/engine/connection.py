# SPDX-License-Identifier: MIT
"""
A target's side of one iSCSI connection, sans-IO.

Bytes and the time go in (`receive_data`, `tick`), PDUs come out (`output`): nothing
here touches a transport, a timer or the reactor.  Each PDU is looked up in `ROWS`
(`dispatch`) by its opcode: the row holds its function, the phases where it is legal,
and whether CmdSN orders it.  What is not there, or not in this phase, is rejected.

A connection owns its bytes, its digests, its StatSN and its output (`outlet`).  What
several connections of a session share (`Session`: the CmdSN window, the order of
commands, the tasks, the nexus) it only refers to.

At error recovery level 0 *recovery* is None, and *responder* puts a response straight
into the output.  At a higher level they are those of `retransmission`, which keeps what
it sends until the initiator acknowledges it.  Where a response may have to wait
(`response_fence`) *responder* sees to that, and *unfenced_responder* sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine import reinstatement as continuation
from scstd.protocols.engine import response, response_fence, timers, violations
from scstd.protocols.engine.dispatch import ROWS, see_priority
from scstd.protocols.engine.express import way_of
from scstd.protocols.engine.login_phase import LoginPhase
from scstd.protocols.engine.ordering import HeldPDU, Ordering
from scstd.protocols.engine.outlet import OUTPUT_BATCH, Outlet
from scstd.protocols.engine.phase import Phase
from scstd.protocols.engine.retransmission import Recovery, respond_recoverably
from scstd.protocols.engine.session import Session
from scstd.protocols.engine.tap_lists import TapList
from scstd.protocols.engine.tapped import TappedPDU, TapRank
from scstd.protocols.engine.taps import Taps
from scstd.protocols.engine.timers import Timers
from scstd.protocols.wire.codes import OPCODE, RejectReason
from scstd.protocols.wire.discovery import TextExchange
from scstd.protocols.wire.framing import Framer, FramingError
from scstd.protocols.wire.login import Login
from scstd.protocols.wire.parameters import Parameters
from scstd.protocols.wire.pdu import (
    PDU,
    LoginRequest,
    Reject,
    SCSICommand,
    TaskManagementRequest,
)
from scstd.protocols.wire.serial import CommandWindow
from scstd.protocols.wire.states import ConnectionEvent, ConnectionState, after
from scstd.scsi.sam import Task

if TYPE_CHECKING:
    from scstd.protocols.engine.node import Node
    from scstd.protocols.wire.login_status import LoginError

Responder = Callable[["Connection", Task, SCSICommand], None]
"""What sends the response to a task, for the command that it was made of."""


def _no_session(_task: Task) -> None:
    raise AssertionError("a task without a session")


@attrs.define(eq=False, repr=False)
class Connection(Outlet):
    """
    One connection: its fields are assigned by its own methods, and by nobody else.
    """

    node: Node
    wake: Callable[[], None]
    """Called when there is new output outside `receive_data`, or it is over: the
    transport sends `output`, and then, if `over`, closes."""
    now: float
    """The time, in seconds, as it was told last."""
    peer: str = ""
    """Where the initiator is, ``host:port``."""
    portal: str = ""
    """Where it has come to, ``host:port``."""
    certificate_names: Callable[[], frozenset[str] | None] = lambda: None
    """Returns the initiators that the other end's certificate is good for, None if it
    may be any."""
    over_login_limit: bool = False
    """It came when too many logins were under way."""
    elsewhere: Callable[[], LoginError | None] = lambda: None
    """Returns why it can be in no normal session here, if the targets are served by
    other processes."""

    # Where it stands.

    state: ConnectionState = attrs.field(default=ConnectionState.FREE, init=False)
    phase: int = attrs.field(default=Phase.LOGIN, init=False)
    """Which PDUs are legal."""
    login_phase: LoginPhase = attrs.field(init=False)
    parameters: Parameters = attrs.field(factory=Parameters, init=False)
    """What was negotiated."""
    cid: int = attrs.field(default=0, init=False)
    """Its number in the session (CID)."""
    session: Session | None = attrs.field(default=None, init=False)
    """The normal session that it is in."""
    text: TextExchange | None = attrs.field(default=None, init=False)
    """The text negotiation under way."""
    logouts: set[int] = attrs.field(factory=set, init=False)
    """The tags of the logouts under way."""
    over: bool = attrs.field(default=False, init=False)
    """It closes when its output is sent."""
    why: str = attrs.field(default="", init=False)
    """Why it is over."""
    is_cleaned_up: bool = attrs.field(default=False, init=False)
    """None of its tasks can touch data any more, or be reassigned."""
    _on_cleanup: list[Callable[[], None]] = attrs.field(factory=list, init=False)

    # What comes.

    framer: Framer = attrs.field(factory=Framer, init=False)
    taps: Taps = attrs.field(init=False)
    """Who sees each PDU, in and out."""
    ordering: Ordering = attrs.field(
        factory=lambda: Ordering(CommandWindow(0, 1)), init=False
    )
    """The order of commands: the session's."""
    current: HeldPDU | TappedPDU | None = attrs.field(default=None, init=False)
    """The PDU that is run, if it is not the one that the framer found last."""
    receiving: bool = attrs.field(default=False, init=False)
    """Somebody is going to look for output when this returns."""
    express: Callable[[Connection], None] | None = attrs.field(default=None, init=False)
    """Takes the usual commands, while nothing special is here."""

    # How tasks are answered.

    done: Callable[[Task], None] = attrs.field(default=_no_session, init=False)
    """What a task calls at its end: a task whose ``done`` this is belongs to this
    connection (connection allegiance, RFC 7143 section 4.2.5.1)."""
    responder: Responder = attrs.field(default=response.respond, init=False)
    """Sends the response to a task, or has it wait for its turn."""
    unfenced_responder: Responder = attrs.field(default=response.respond, init=False)
    """Sends it."""

    # The transport, and time.

    backlog: int = attrs.field(default=0, init=False)
    """Bytes that the socket has not taken."""
    timers: Timers = attrs.field(factory=Timers, init=False)
    began: float = attrs.field(default=0.0, init=False)
    received: float = attrs.field(default=0.0, init=False)
    """When something came last."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.happened(ConnectionEvent.ACCEPTED)
        self.received = self.began = self.now
        self.window = self.ordering.window
        self.timers.login = self.node.login_timeout
        self.login_phase = LoginPhase(self)
        self.taps = Taps(self)
        self.node.opened(self)
        self.taps.review()

    def happened(self, event: ConnectionEvent) -> None:
        """
        Note what has happened to the connection.

        :raises ProtocolError: it can not happen in its state.
        """
        self.state = after(self.state, event)

    def give_reason(self, why: str) -> None:
        """
        Note why the connection is going to be over.
        """
        self.why = why

    @property
    def login(self) -> Login:
        """What the initiator and its login have said: names, keys, identity."""
        return self.login_phase.login

    def order_by(self, ordering: Ordering) -> None:
        """
        Take the commands' order from *ordering* from now on.
        """
        self.ordering = ordering
        self.window = ordering.window

    def begin_login(self, pdu: LoginRequest) -> None:
        """
        Take from the first Login Request what the connection begins with.
        """
        self.order_by(Ordering(CommandWindow(pdu.cmd_sn, 1)))
        self.stat_sn = pdu.exp_stat_sn
        self.cid = pdu.cid

    def enter(self, session: Session, done: Callable[[Task], None]) -> None:
        """
        Be one of a session's: *done* is what tasks of this connection call at their
        end.
        """
        self.session = session
        self.done = done
        self.order_by(session.ordering)

    def leave_session(self) -> None:
        """
        Be none of a session's, which knows.
        """
        self.session = None
        self.look_again()

    def take_no_more(self) -> None:
        """
        Find no further PDU legal: its initiator has logged out.
        """
        self.phase = Phase.OVER
        self.look_again()

    def negotiate(self, exchange: TextExchange | None) -> None:
        """
        Have a text negotiation, or none.
        """
        self.text = exchange

    # In.

    def receive_data(self, chunk: bytes, now: float) -> None:
        """
        Take in what the transport received at time *now*, in seconds.
        """
        self.now = self.received = now
        if self.over:
            return
        self.framer.feed(chunk)
        if not self.paused:
            self.pump()

    def pump(self) -> None:
        """
        Take the PDUs that are there, until the output is enough for now.
        """
        self.receiving = True
        following = self.framer.next
        try:
            while self.output_bytes < OUTPUT_BATCH and not self.over:
                if self.express is not None:
                    self.express(self)
                    if self.stalled or self.over:
                        break
                pdu = following()
                if pdu is None:
                    break
                if self.tapped is not None:
                    self.tapped(pdu)
                    continue
                row = ROWS.get(pdu.first & OPCODE)
                if row is None or not row.phases & self.phase:
                    violations.illegal(self, pdu)
                elif not row.numbered:
                    row.run(self, pdu)
                else:
                    self.ordering.order(self, row, pdu)
        except FramingError as error:
            violations.unframed(self, str(error))
        finally:
            self.receiving = False
        if self.taps.pending:
            self.taps.catch_up()

    def look_again(self) -> None:
        """
        See whether the express way may be taken.
        """
        self.express = way_of(self)

    def run(self, pdu: PDU) -> None:
        """
        Do what is to be done with a PDU that is legal.
        """
        row = ROWS[pdu.first & OPCODE]
        if row.numbered:
            self.ordering.order(self, row, pdu)
        else:
            row.run(self, pdu)

    @contextmanager
    def being_run(self, one: HeldPDU | TappedPDU) -> Iterator[None]:
        """
        Have a PDU be the one that is run: not the one that has just come.
        """
        before, self.current = self.current, one
        try:
            yield
        finally:
            self.current = before

    def do_between(self, call: Callable[[], None]) -> None:
        """
        Do something between two PDUs, and see that what comes of it is sent.
        """
        if self.receiving:
            call()
            return
        self.receiving = True
        try:
            call()
        finally:
            self.receiving = False
        if self.output or self.over:
            self.wake()

    @property
    def data_digest_failed(self) -> bool:
        """
        Whether the data segment of the PDU being run is damaged.
        """
        if self.current is not None:
            return self.current.damaged
        return self.framer.data_digest_failed

    @property
    def header(self) -> bytes:
        """The header segments of the PDU being run, as they came."""
        return self.framer.header if self.current is None else self.current.header

    def manage(self, pdu: TaskManagementRequest) -> None:
        """
        Carry out a task management function whose turn it is.
        """
        if self.session is not None:
            self.session.manage(self, pdu)
        else:
            # It was over before the turn of the function came.
            self.ordering.finished(pdu)

    def tap_lists(self) -> Iterator[TapList]:
        """
        Yield the taps that this connection has with others.
        """
        yield self.node.taps
        if self.session is not None:
            yield from self.session.tap_lists

    # Out.

    def respond_by(self, responder: Responder) -> None:
        """
        Have responses sent by *responder*, when nothing has them wait.
        """
        if self.responder is self.unfenced_responder:
            self.responder = responder
        self.unfenced_responder = responder
        self.look_again()

    def fence(self, responder: Responder | None) -> None:
        """
        Have responses come through a fence (`response_fence`), or not.
        """
        self.responder = responder or self.unfenced_responder
        self.look_again()

    def reject(self, reason: RejectReason, data_sn: int = 0) -> None:
        """
        Send a Reject for the PDU being run (RFC 7143 section 11.17); *data_sn* is the
        next number of what a SNACK asked for wrongly.
        """
        self.send_pdu(Reject(reason=reason, data_sn=data_sn, data=self.header))

    def logged_in(self, parameters: Parameters) -> None:
        """
        Enter the full feature phase with what the login agreed on.
        """
        parameters.settle()
        self.parameters = parameters
        self.header_digest = parameters.header_digest == "CRC32C"
        self.data_digest = parameters.data_digest == "CRC32C"
        self.framer.header_digest = self.header_digest
        self.framer.data_digest = self.data_digest
        self.framer.max_segment = parameters.max_recv_data_segment_length
        self.phase = Phase.DISCOVERY if self.session is None else Phase.NORMAL
        if self.session is not None and parameters.error_recovery_level:
            self.recovery = Recovery(self)
            self.taps.set(TapRank.RECOVERY, self.recovery.see)
            self.respond_by(respond_recoverably)
        if self.session is not None:
            response_fence.build(self)
            if parameters.iscsi_protocol_level >= 2:
                self.taps.set(TapRank.PRIORITY, see_priority)
            self.session.tap(self)
        self.taps.compose()

    def hold_back(self, size: int) -> None:
        """
        Note that the transport has *size* bytes that the socket has not taken.
        """
        if size:
            size += self.later_bytes
        before, self.backlog = self.backlog, size
        session = self.session
        if session is not None:
            session.reads.tight = size > 0 or session.reads.is_tight()
        self.node.unsent.change(size - before)

    def sent(self) -> None:
        """
        Go on with what waited until something was sent.
        """
        session = self.session
        if session is not None and session.reads.parked:
            session.reads.go_on()
        if self.taps.pending:
            self.taps.catch_up()

    # The end.

    def fail(self, why: str) -> None:
        """
        Give the connection up: what is in `output` is still sent, then it closes.
        """
        if not self.over:
            self.end(ConnectionEvent.FAILED, why)

    def closed_elsewhere(self, why: str) -> None:
        """
        Close cleanly, after a logout on another connection.
        """
        if not self.over:
            self.end(ConnectionEvent.CLOSED_ELSEWHERE, why)

    def end(
        self,
        event: ConnectionEvent,
        why: str = "",
        *,
        logged_out: bool = False,
        joining: bool = False,
    ) -> None:
        """
        Close after the output is sent; *why* is the reason, if it was not given.

        What becomes of the session, and of the tasks of this connection,
        `connection_cleanup` has: *logged_out* says that it was removed for recovery,
        *joining* that another connection is about to take its place.
        """
        if self.session is not None:
            self.session.reveal()
        self.why = why or self.why
        self.over = True
        self.phase = Phase.OVER
        self.happened(event)
        if not self.receiving:
            self.wake()
        timers.tell_damage(self)
        self.node.ended(self)
        self.taps.close()
        session, self.session = self.session, None
        self.look_again()
        if session is not None:
            session.left(self, logged_out=logged_out, joining=joining)
        else:
            continuation.failed(self)
            self.cleaned_up()

    def disconnected(self) -> None:
        """
        The transport connection is gone.
        """
        if not self.over:
            self.end(
                ConnectionEvent.DISCONNECTED, "the initiator closed the connection"
            )

    def cleaned_up(self) -> None:
        """
        Note that no task of this connection can touch data, or be reassigned.
        """
        self.happened(ConnectionEvent.CLEANED_UP)
        self.is_cleaned_up = True
        calls, self._on_cleanup = self._on_cleanup, []
        for call in calls:
            call()

    def when_cleaned_up(self, call: Callable[[], None]) -> None:
        """
        Call *call* when no task of this connection can touch data any more.
        """
        if self.is_cleaned_up:
            call()
        else:
            self._on_cleanup.append(call)

    def tick(self, now: float) -> None:
        """
        Look at the timers; to be called every second or so.
        """
        self.now = now
        timers.tick(self, now)
