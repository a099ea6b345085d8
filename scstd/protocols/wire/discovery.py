# SPDX-License-Identifier: MIT
"""
Text in the full feature phase: SendTargets, and keys renegotiated (RFC 7143 sections
6.4, 11.10 and appendix C).

An exchange is one Text Request with its answer; either may take several PDUs, of one
Initiator Task Tag.  While an answer has more to come the Target Transfer Tag names the
exchange, and the initiator asks for the next part with an empty request.  What was
negotiated holds when the exchange is over, and if nothing of it was rejected (section
7.12).

``SendTargets=All`` belongs to discovery sessions.  In a normal session it is answered
with the session's own target: initiators' tests ask for it, and it tells them nothing
that they do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from scstd.protocols.wire.codes import RESERVED_TAG
from scstd.protocols.wire.keys import KeyStage
from scstd.protocols.wire.parameters import REJECT, Parameters, negotiate
from scstd.protocols.wire.text import (
    MAX_KEYS,
    MAX_TEXT_LENGTH,
    Collector,
    Pairs,
    TextError,
    encode,
    split,
)

__all__ = ["TargetRecord", "TextError", "TextExchange", "TextReply"]

MAX_EXCHANGE_LENGTH = 4 * MAX_TEXT_LENGTH
"""Bytes of text that an initiator may send in one exchange, over all its requests."""


@attrs.frozen
class TargetRecord:
    """
    One target that an initiator may see, and its addresses (``host:port,tpgt``).
    """

    name: str
    addresses: tuple[str, ...]

    def pairs(self) -> Pairs:
        """
        Return the record as SendTargets answers it.
        """
        return [
            ("TargetName", self.name),
            *(("TargetAddress", address) for address in self.addresses),
        ]


@attrs.define
class TextReply:
    """
    What one Text Response says.
    """

    final: bool
    continue_: bool
    ttt: int
    data: bytes


@attrs.define(eq=False)
class TextExchange:
    """
    One exchange.
    """

    itt: int
    """Names it."""
    records: Callable[[], Iterable[TargetRecord]]
    """Yields the targets that this initiator may see."""
    own: str | None
    """The name of the session's target; None in a discovery session."""
    parameters: Parameters
    local: Mapping[str, Any]
    ttt: int = 1
    _collector: Collector = attrs.field(factory=Collector)
    _waiting: list[bytes] = attrs.field(factory=list)
    _seen: set[str] = attrs.field(factory=set)
    _size: int = 0
    _agreed: Parameters | None = None
    _failed: bool = False

    def receive(
        self, data: bytes, *, final: bool, continue_: bool, itt: int
    ) -> TextReply:
        """
        Take one Text Request, return its response.

        :raises TextError: the request is malformed; it is rejected.
        """
        if itt != self.itt:
            raise TextError("another Initiator Task Tag in one exchange")
        self._size += len(data)
        if self._size > MAX_EXCHANGE_LENGTH:
            raise TextError(f"texts of more than {MAX_EXCHANGE_LENGTH} bytes")
        if self._waiting and (data or continue_):
            raise TextError("text sent before all was received")
        if continue_:
            if final:
                raise TextError("the F and the C bit in one request")
            self._collector.add(data)
            return TextReply(final=False, continue_=False, ttt=self.ttt, data=b"")
        if not self._waiting:
            self._collector.add(data)
            answers = self._answer(self._collector.take())
            if self.own is None and "SendTargets" not in self._seen:
                # Discovery is for that alone (section 4.3).
                raise TextError("a text without SendTargets")
            self._waiting = split(
                encode(answers), self.parameters.max_xmit_data_segment_length
            )
        part = self._waiting.pop(0)
        more = bool(self._waiting)
        ended = final and not more
        if ended and self._agreed is not None and not self._failed:
            self._agreed.settle()
            self.parameters.replace(self._agreed)
        return TextReply(
            final=ended,
            continue_=more,
            ttt=RESERVED_TAG if ended else self.ttt,
            data=part,
        )

    def _answer(self, pairs: Pairs) -> Pairs:
        answers: Pairs = []
        agreed = self._agreed
        if agreed is None:
            agreed = self._agreed = attrs.evolve(self.parameters)
        for key, value in pairs:
            if key in self._seen:
                # Section 6.4: neither is to negotiate a key twice in a sequence.
                raise TextError(f"{key!r} was sent twice")
            if len(self._seen) >= MAX_KEYS:
                raise TextError(f"more than {MAX_KEYS} keys")
            self._seen.add(key)
            if key == "SendTargets":
                answers += self._send_targets(value)
                continue
            found = negotiate(
                [(key, value)], KeyStage.FULL_FEATURE, self.local, agreed, {}
            )
            self._failed |= (key, REJECT) in found
            answers += found
        return answers

    def _send_targets(self, value: str) -> Pairs:
        records = list(self.records())
        if value == "All":
            chosen = [one for one in records if self.own in {None, one.name}]
        elif not value:
            if self.own is None:
                return [("SendTargets", "Reject")]
            chosen = [one for one in records if one.name == self.own]
        elif not value.startswith(("iqn.", "eui.", "naa.")):
            return [("SendTargets", "Reject")]
        else:
            chosen = [one for one in records if one.name == value.casefold()]
        return [pair for record in chosen for pair in record.pairs()]
