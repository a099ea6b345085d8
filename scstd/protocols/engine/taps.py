# SPDX-License-Identifier: MIT
"""
Taps: who sees each PDU of a connection, in and out, before the rest does.

One mechanism for what watches, drops, changes, holds and adds PDUs.  There are others'
taps (`scstd.interfaces.taps` says what these may do, and where they are attached) and
those that the engine has itself, where something is asked of a connection that most
connections need not do.  `TapRank` is their order.

The functions are composed when the list changes: each calls the next one, the last does
what would have been done without.  While there are none, `Connection.tapped` is None,
and `Connection.send` appends to the output: there is nothing on the path.

The engine is in the middle of something when a PDU leaves.  So what a tap begins there
that is not just sending (a PDU that is to come in, a close) is done when the engine has
come to an end with it: `Taps.later`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import attrs
from twisted.logger import Logger

from scstd.interfaces import Buffer
from scstd.interfaces.taps import IIncomingPDUs, IOutgoingPDUs, ITapClosed
from scstd.protocols.engine import violations
from scstd.protocols.engine.dispatch import ROWS
from scstd.protocols.engine.tapped import (
    Digest,
    Maker,
    Onward,
    Tap,
    Tapped,
    TappedPDU,
    TapRank,
)
from scstd.protocols.wire.codes import OPCODE
from scstd.protocols.wire.digest import digest
from scstd.protocols.wire.framing import PADDING
from scstd.protocols.wire.pdu import BHS_LENGTH, PDU, PDU_TYPES, UnknownPDU

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.tap_lists import Attachment

_log = Logger()


_numbers = count()


def _before(tap: Tap, following: Onward) -> Onward:
    return lambda passing: tap(passing, following)


@attrs.define(eq=False, repr=False)
class Taps:
    """
    The taps of one connection.
    """

    connection: Connection
    busy: int = 0
    """How deep the engine is in the middle of something."""
    pending: list[Callable[[], None]] = attrs.field(factory=list)
    """What is done when it has come to an end with that."""
    _own: dict[TapRank, Tap] = attrs.field(factory=dict)
    """The engine's taps, one of a rank."""
    _others: list[Tapped] = attrs.field(factory=list)
    """Others', those nearest to the wire first."""
    _made: dict[Attachment, Tapped | None] = attrs.field(factory=dict)
    """What has come of the attachments that are for more than this connection."""
    _muted: bool = False
    """A tap has raised: nothing passes any more."""
    _fault: Exception | None = None
    """What the engine raised when a tap had it go on: it is not the tap's."""
    _into: Onward = attrs.field(init=False)
    """The first of the engine's, for what comes in."""
    _first: Onward = attrs.field(init=False)
    """The first of all, for what comes in."""
    _last: Onward = attrs.field(init=False)
    """The first of all, for what goes out."""

    # The list.

    def set(self, rank: TapRank, tap: Tap | None) -> None:
        """
        Put a tap of the engine's own in its place, or take it away.
        """
        if tap is not None:
            self._own[rank] = tap
        elif self._own.pop(rank, None) is None:
            return
        self.compose()

    def attach(self, make: Maker, rank: TapRank = TapRank.CONNECTION) -> Tapped | None:
        """
        Attach somebody's tap to this connection; return what detaches it, or None if
        there is none for it.
        """
        tapped = Tapped(self, (rank, next(_numbers)))
        tapped.tap = make(tapped)
        if tapped.tap is None or self.connection.over:
            return None
        self._others.append(tapped)
        self._others.sort(key=lambda one: one.place)
        self.compose()
        return tapped

    def detach(self, tapped: Tapped) -> None:
        """
        Take one of others' taps off.
        """
        if not tapped.attached:
            return
        tapped.attached = False
        if tapped in self._others:
            self._others.remove(tapped)
            self.compose()
        if ITapClosed.providedBy(tapped.tap):
            try:
                tapped.tap.closed()
            except Exception:  # noqa: BLE001 - as above
                _log.failure("closing the tap {name} failed", name=_name(tapped))

    def review(self) -> None:
        """
        Have those taps that the node, the target and the session have for this
        connection, as they are now.
        """
        wanted = {
            one: each.rank
            for each in self.connection.tap_lists()
            for one in each.attachments
            if one.is_for(self.connection)
        }
        for one in [one for one in self._made if one not in wanted]:
            gone = self._made.pop(one)
            if gone is not None:
                self.detach(gone)
        for one, rank in wanted.items():
            if one not in self._made:
                # It may come back here.
                self._made[one] = None
                try:
                    self._made[one] = self.attach(one.make, rank)
                except Exception:  # noqa: BLE001 - it is somebody else's
                    _log.failure("making a PDU tap with {make} failed", make=one.make)

    def close(self) -> None:
        """
        Tell the taps that the connection is over.
        """
        self._made.clear()
        for tapped in list(self._others):
            self.detach(tapped)

    def compose(self) -> None:
        """
        Have each tap call the next one, and have them called if there is one.
        """
        coming: Onward = self._deliver
        for rank in sorted(self._own, reverse=True):
            coming = _before(self._own[rank], coming)
        coming = self._into = _before(self._check, coming)
        for tapped in reversed(self._others):
            tapped.onward = coming
            if IIncomingPDUs.providedBy(tapped.tap):
                coming = tapped.tell_incoming
        leaving: Onward = self._emit
        for tapped in self._others:
            tapped.outward = leaving
            if IOutgoingPDUs.providedBy(tapped.tap):
                leaving = tapped.tell_outgoing
        self._first, self._last = coming, leaving
        self.connection.be_tapped(
            self._arrive if self._own or coming != self._into else None,
            self._leave if leaving != self._emit else None,
        )

    def behind(self, gone: Tapped) -> Onward:
        """
        Return what is behind a tap that is there no more, for what comes in.
        """
        for tapped in self._others:
            if tapped.place > gone.place and IIncomingPDUs.providedBy(tapped.tap):
                return tapped.tell_incoming
        return self._into

    def before(self, gone: Tapped) -> Onward:
        """
        Return what is before a tap that is there no more, for what goes out.
        """
        for tapped in reversed(self._others):
            if tapped.place < gone.place and IOutgoingPDUs.providedBy(tapped.tap):
                return tapped.tell_outgoing
        return self._emit

    # In.

    def _arrive(self, pdu: PDU) -> None:
        """
        Take a PDU that the framer has found.
        """
        if self._muted:
            return
        framer = self.connection.framer
        passing = TappedPDU(pdu, framer.header)
        if framer.header_digest:
            passing.header_digest = Digest.RIGHT
        if framer.data_digest and pdu.data:
            wrong = framer.data_digest_failed
            passing.data_digest = Digest.WRONG if wrong else Digest.RIGHT
        self._first(passing)
        if self.pending:
            self.catch_up()

    def _check(self, passing: TappedPDU, go_on: Onward) -> None:
        """
        Let what is legal go on into the engine.
        """
        connection = self.connection
        if connection.over or self._muted:
            return
        if passing.header_digest is Digest.WRONG:
            violations.unframed(connection, _BROKEN)
            return
        self.busy += 1
        try:
            with connection.being_run(passing):
                row = ROWS.get(passing.pdu.first & OPCODE)
                if row is not None and row.phases & connection.phase:
                    go_on(passing)
                else:
                    violations.illegal(connection, passing.pdu)
        finally:
            self.busy -= 1

    def _deliver(self, passing: TappedPDU) -> None:
        """
        Do with a PDU what is done without taps.
        """
        connection = self.connection
        if passing.header_digest is Digest.WRONG:
            violations.unframed(connection, _BROKEN)
        elif not connection.over:
            # What it acknowledges may have been waited for by a function that ends this
            # very connection.
            connection.framer.judge(damaged=passing.damaged)
            connection.run(passing.pdu)

    # Out.

    def leaving(self, pdu: PDU) -> TappedPDU:
        """
        Return a PDU as it would leave now.
        """
        connection = self.connection
        return TappedPDU(
            pdu,
            header_digest=Digest(connection.header_digest),
            data_digest=Digest(connection.data_digest and bool(pdu.data)),
        )

    def _leave(self, header: bytes, data: Buffer) -> None:
        """
        Take a PDU that the engine sends (`Connection.send`).
        """
        if self._muted:
            return
        kind = PDU_TYPES.get(header[0] & OPCODE, UnknownPDU)
        pdu = kind.parse(header)
        pdu.ahs, pdu.data = header[BHS_LENGTH:], data
        self.busy += 1
        try:
            self._last(self.leaving(pdu))
        finally:
            self.busy -= 1

    def _emit(self, passing: TappedPDU) -> None:
        """
        Send a PDU as it is now.
        """
        pdu = passing.pdu
        try:
            header, data = pdu.encode(), pdu.data
            header_digest = _digest(passing.header_digest, header)
            data_digest = _digest(passing.data_digest, data, PADDING[len(data) & 3])
        except Exception:  # noqa: BLE001 - a tap has made it so
            _log.failure(
                "PDU taps have made of {kind} what can not be sent, and the connection"
                " at {peer} is closed",
                kind=type(pdu).__name__,
                peer=self.connection.peer,
            )
            self._close_for("PDU taps have made what can not be sent")
            return
        self.connection.put(header + header_digest, data, data_digest)

    def let_out(self, outward: Onward | None, passing: TappedPDU) -> None:
        """
        Have a PDU go out from a tap on, and see that it is sent.
        """
        self.busy += 1
        try:
            self.guard(outward, passing)
        finally:
            self.busy -= 1
        self.wake()

    def wake(self) -> None:
        """
        Have sent what a tap has put into the output when nobody else would look.
        """
        if not (self.busy or self.connection.receiving):
            self.connection.wake()

    # Later, and what goes wrong.

    def later(self, call: Callable[[], None]) -> None:
        """
        Call *call* now, if the engine is not in the middle of something, or soon: when
        what came is done, or by the transport, which whoever sends wakes.
        """
        self.pending.append(call)
        if not (self.busy or self.connection.receiving):
            self.catch_up()

    def catch_up(self) -> None:
        """
        Do what has waited for the engine.
        """
        if not self.busy:
            self.connection.do_between(self._catch_up)

    def _catch_up(self) -> None:
        while self.pending:
            self.pending.pop(0)()

    def guard(self, onward: Onward | None, passing: TappedPDU) -> None:
        """
        Have a PDU go on, and know what the engine raises from what a tap raises.
        """
        assert onward is not None
        try:
            onward(passing)
        except Exception as error:
            self._fault = error
            raise

    def raised(self, tapped: Tapped, error: Exception) -> None:
        """
        Take off a tap that has raised, and close the connection: nothing that it had in
        hand goes on.
        """
        if error is self._fault:
            raise error
        name = _name(tapped)
        _log.failure(
            "the PDU tap {name} has raised, and the connection of {initiator} at {peer}"
            " is closed",
            name=name,
            initiator=tapped.initiator,
            peer=tapped.peer,
        )
        self._close_for(f"the PDU tap {name} has raised")
        self.detach(tapped)

    def _close_for(self, why: str) -> None:
        """
        Let nothing pass any more, and close the connection as soon as may be.
        """
        self._muted = True
        self.later(partial(self.connection.fail, why))


_BROKEN = "the header digest is wrong (on purpose)"


def _digest(kind: Digest, *pieces: Buffer) -> bytes:
    if kind is Digest.NONE:
        return b""
    right = digest(*pieces)
    return right if kind is Digest.RIGHT else bytes(octet ^ 0xFF for octet in right)


def _name(tapped: Tapped) -> str:
    return str(getattr(tapped.tap, "name", tapped.tap))
