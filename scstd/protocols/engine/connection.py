# SPDX-License-Identifier: MIT
"""
A target's side of one iSCSI connection, sans-IO.

Bytes and the time go in (`receive_data`, `tick`), PDUs come out (`output`): nothing
here touches a transport, a timer or the reactor.  Each PDU is looked up in `ROWS`
(`dispatch`) by its opcode: the row holds its function, the phases where it is legal,
and whether CmdSN orders it.  What is not in the table, or not in this phase, is
rejected.

A connection owns its bytes, its digests, its StatSN and its output.  What several
connections of a session share (`Session`: the CmdSN window, the order of commands, the
tasks, the nexus) it only refers to.

At error recovery level 0 *recovery* is None, and *responder* puts a response straight
into the output.  At a higher level they are those of `retransmission`, which keeps what
it sends until the initiator acknowledges it.  Where a response may have to wait
(`response_fence`) *responder* sees to that, and *unfenced_responder* sends it.

A stream that cannot be trusted any more (a wrong header digest, a segment that is too
long) ends the connection at every level: there is no way to find the next PDU in it
(RFC 7143 section 7.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from scstd.interfaces import Buffer
from scstd.protocols.engine import (
    async_message,
    connection_cleanup,
    response,
    response_fence,
    timers,
)
from scstd.protocols.engine import reinstatement as continuation
from scstd.protocols.engine.dispatch import ROWS, see_priority
from scstd.protocols.engine.login_phase import LoginPhase
from scstd.protocols.engine.ordering import Held, Ordering
from scstd.protocols.engine.phase import Phase
from scstd.protocols.engine.retransmission import Recovery, respond_recoverably
from scstd.protocols.engine.session import Session
from scstd.protocols.engine.tap_lists import TapList
from scstd.protocols.engine.tapped import Rank, TappedPDU
from scstd.protocols.engine.taps import Taps
from scstd.protocols.engine.timers import Timers
from scstd.protocols.wire.codes import IMMEDIATE, OPCODE, RejectReason
from scstd.protocols.wire.digest import digest
from scstd.protocols.wire.discovery import TextExchange
from scstd.protocols.wire.framing import PADDING, Framer, FramingError
from scstd.protocols.wire.login import Login
from scstd.protocols.wire.parameters import Parameters
from scstd.protocols.wire.pdu import (
    BHS_LENGTH,
    PDU,
    Reject,
    SCSICommand,
    TaskManagementRequest,
)
from scstd.protocols.wire.serial import MASK, CommandWindow
from scstd.protocols.wire.states import ConnectionState, Event, after
from scstd.scsi.sam import Task

if TYPE_CHECKING:
    from scstd.protocols.engine.node import Node

OUTPUT_BATCH = 65536
"""
Bytes of output that are sent before further PDUs are taken: the initiator can work on
the first answers while we work on the next, and memory stays bounded.
"""


Responder = Callable[["Connection", Task, SCSICommand], None]
"""What sends the response to a task, for the command that it was made of."""


def _no_session(_task: Task) -> None:
    raise AssertionError("a task without a session")


@attrs.define(eq=False, repr=False)
class Connection:
    """
    One connection.

    *certificate_names* returns the initiators that the other end's certificate is good
    for, None if it may be any.  A *over_login_limit* one came when too many logins were
    under way.

    *wake* is called when there is new output outside `receive_data`.  The transport
    sends `output` in order and then, if `over`, closes.  While it cannot keep up it
    sets `paused`, and calls `pump` when it can again; it says how much it still has
    (`hold_back`), and that something was sent (`sent`).

    *text* is the negotiation under way, *logouts* are the logouts, by their tags.

    *is_cleaned_up* says that none of its tasks can touch data any more, or be
    reassigned; *replaces* are the lost connections that its login is to log out.

    *done* is what a task calls at its end: a task whose ``done`` this is belongs to
    this connection (connection allegiance, RFC 7143 section 4.2.5.1).

    *tapped*, where there is one, takes each PDU that comes through the taps; *send* is
    the way of each PDU that leaves, its header segments and its data segment.
    """

    node: Node
    wake: Callable[[], None]
    now: float
    peer: str = ""
    portal: str = ""
    certificate_names: Callable[[], frozenset[str] | None] = lambda: None
    over_login_limit: bool = False
    timers: Timers = attrs.field(factory=Timers)
    state: ConnectionState = ConnectionState.FREE
    phase: int = Phase.LOGIN
    framer: Framer = attrs.field(factory=Framer)
    parameters: Parameters = attrs.field(factory=Parameters)
    ordering: Ordering = attrs.field(
        factory=lambda: Ordering(CommandWindow(0, 1)), init=False
    )
    window: CommandWindow = attrs.field(init=False)
    session: Session | None = None
    done: Callable[[Task], None] = _no_session
    unfenced_responder: Responder = response.respond
    responder: Responder = response.respond
    recovery: Recovery | None = None
    taps: Taps = attrs.field(init=False)
    tapped: Callable[[PDU], None] | None = None
    send: Callable[[bytes, Buffer], None] = attrs.field(init=False)
    output: list[Buffer] = attrs.field(factory=list)
    output_bytes: int = 0
    stat_sn: int = 0
    cid: int = 0
    header_digest: bool = False
    data_digest: bool = False
    receiving: bool = False
    paused: bool = False
    blocked_since: float | None = None
    backlog: int = 0
    over: bool = False
    why: str = ""
    login_phase: LoginPhase = attrs.field(init=False)
    text: TextExchange | None = None
    logouts: set[int] = attrs.field(factory=set)
    reinstates: bool = False
    continues: Session | None = None
    replaces: list[connection_cleanup.Lost] = attrs.field(factory=list)
    is_cleaned_up: bool = False
    on_cleanup: list[Callable[[], None]] = attrs.field(factory=list)
    current: Held | TappedPDU | None = None
    began: float = 0.0
    received: float = 0.0
    pinged: float | None = None
    ping_ttt: int = 0

    def __attrs_post_init__(self) -> None:
        self.state = after(self.state, Event.ACCEPTED)
        self.received = self.began = self.now
        self.window = self.ordering.window
        self.timers.login = self.node.login_timeout
        self.login_phase = LoginPhase(self)
        self.send = self.put
        self.taps = Taps(self)
        self.node.opened(self)
        self.taps.review()

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
                if self.tapped is not None:
                    self.tapped(pdu)
                    continue
                row = ROWS.get(pdu.first & OPCODE)
                if row is None or not row.phases & self.phase:
                    self.illegal(pdu)
                elif not row.numbered:
                    row.run(self, pdu)
                else:
                    self.ordering.order(self, row, pdu)
        except FramingError as error:
            self.unframed(str(error))
        finally:
            self.receiving = False
        if self.taps.pending:
            self.taps.catch_up()

    def is_legal(self, pdu: PDU) -> bool:
        """
        Say whether a PDU is known, and legal in this phase.
        """
        row = ROWS.get(pdu.first & OPCODE)
        return row is not None and bool(row.phases & self.phase)

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
    def being_run(self, one: Held | TappedPDU) -> Iterator[None]:
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

    # Out.

    def next_stat_sn(self) -> int:
        """
        Return the StatSN for an answer, and advance it.
        """
        stat_sn = self.stat_sn
        self.stat_sn = (stat_sn + 1) & MASK
        return stat_sn

    def put(self, header: bytes, data: Buffer = b"", data_digest: bytes = b"") -> None:
        """
        Append a PDU to the output: the only place where that is done.  What is not data
        (a header digest too) stands in *header*.
        """
        output = self.output
        output.append(header)
        if data:
            length = len(data)
            self.output_bytes += length + BHS_LENGTH
            output.append(data)
            if length & 3:
                output.append(PADDING[length & 3])
            if data_digest:
                output.append(data_digest)
        else:
            self.output_bytes += len(header)

    def _put_digested(self, header: bytes, data: Buffer) -> None:
        """
        Append a PDU with the digests that were agreed on.
        """
        self.put(
            header + digest(header) if self.header_digest else header,
            data,
            digest(data, PADDING[len(data) & 3]) if data and self.data_digest else b"",
        )

    def be_tapped(
        self,
        arriving: Callable[[PDU], None] | None,
        leaving: Callable[[bytes, Buffer], None] | None,
    ) -> None:
        """
        Have the taps take what comes, and what leaves; None takes nothing.
        """
        self.tapped = arriving
        digests = self.header_digest or self.data_digest
        self.send = leaving or (self._put_digested if digests else self.put)

    def tap_lists(self) -> Iterator[TapList]:
        """
        Yield the taps that this connection has with others.
        """
        yield self.node.taps
        if self.session is not None:
            yield from self.session.tap_lists

    def number(self, pdu: Any, *, advance: bool = True) -> bytes:
        """
        Number a PDU, *advance* StatSN when it carries a status, and keep it if it may
        have to be sent again; return its header segments.
        """
        pdu.stat_sn = self.next_stat_sn() if advance else self.stat_sn
        pdu.exp_cmd_sn = self.window.exp_cmd_sn
        pdu.max_cmd_sn = self.window.max_cmd_sn
        header: bytes = pdu.encode()
        if advance and self.recovery is not None:
            self.recovery.retain(pdu.stat_sn, header, pdu.data)
        return header

    def send_pdu(self, pdu: Any, *, advance: bool = True) -> None:
        """
        Number a PDU and send it.
        """
        self.send(self.number(pdu, advance=advance), pdu.data)

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
            self.taps.set(Rank.RECOVERY, self.recovery.see)
            self.unfenced_responder = self.responder = respond_recoverably
        if self.session is not None:
            response_fence.build(self)
            if parameters.iscsi_protocol_level >= 2:
                self.taps.set(Rank.PRIORITY, see_priority)
            self.session.tap(self)
        self.taps.compose()

    def hold_back(self, size: int) -> None:
        """
        Note that the transport has *size* bytes that the socket has not taken.
        """
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

    # What is wrong.

    def illegal(self, pdu: PDU) -> None:
        """
        Reject a PDU that is not known, or not legal in this phase.
        """
        if self.phase == Phase.LOGIN:
            self.login_phase.intruded()
        elif self.phase != Phase.OVER:
            # It counts as one that has not come (section 7.3).
            cmd_sn = getattr(pdu, "cmd_sn", None)
            if (
                cmd_sn is not None
                and not pdu.first & IMMEDIATE
                and not self.window.accepts(cmd_sn)
            ):
                return
            known = pdu.first & OPCODE in ROWS
            self.reject(
                RejectReason.PROTOCOL_ERROR
                if known
                else RejectReason.COMMAND_NOT_SUPPORTED
            )

    def unframed(self, why: str) -> None:
        """
        Give up a stream in which nobody knows where the next PDU begins.
        """
        if self.phase == Phase.NORMAL and "digest" in why:
            # It is announced (section 4.2.6).
            async_message.drop_connection(self, why)
            return
        if self.phase & (Phase.NORMAL | Phase.DISCOVERY) and "digest" not in why:
            self.reject(RejectReason.PROTOCOL_ERROR)
            if self.session is not None:
                # A format error ends all connections of the session (section 7.7).
                self.session.end(why)
                return
        self.fail(why)

    # The end.

    def fail(self, why: str) -> None:
        """
        Give the connection up: what is in `output` is still sent, then it closes.
        """
        if not self.over:
            self.why = why
            self.end(Event.FAILED)

    def closed_elsewhere(self, why: str) -> None:
        """
        Close cleanly, after a logout on another connection.
        """
        if not self.over:
            self.why = why
            self.end(Event.CLOSED_ELSEWHERE)

    def end(
        self, event: Event, *, logged_out: bool = False, joining: bool = False
    ) -> None:
        """
        Close after the output is sent.

        What becomes of the session, and of the tasks of this connection,
        `connection_cleanup` has: *logged_out* says that it was removed for recovery,
        *joining* that another connection is about to take its place.
        """
        self.over = True
        self.phase = Phase.OVER
        self.state = after(self.state, event)
        if not self.receiving:
            self.wake()
        timers.tell_damage(self)
        self.node.ended(self)
        self.taps.close()
        session, self.session = self.session, None
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
            self.why = "the initiator closed the connection"
            self.end(Event.DISCONNECTED)

    def cleaned_up(self) -> None:
        """
        Note that no task of this connection can touch data, or be reassigned.
        """
        self.state = after(self.state, Event.CLEANED_UP)
        self.is_cleaned_up = True
        calls, self.on_cleanup = self.on_cleanup, []
        for call in calls:
            call()

    def when_cleaned_up(self, call: Callable[[], None]) -> None:
        """
        Call *call* when no task of this connection can touch data any more.
        """
        if self.is_cleaned_up:
            call()
        else:
            self.on_cleanup.append(call)

    def tick(self, now: float) -> None:
        """
        Look at the timers; to be called every second or so.
        """
        timers.tick(self, now)
