# SPDX-License-Identifier: MIT
"""
What was agreed on, and how: the negotiation of text keys (RFC 7143 section 6.2).

Each key agrees by its row (`scstd.protocols.wire.keys`); nothing here knows one by name
but where two of them have to fit together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from scstd.protocols.wire.keys import KEYS, Declared, Key, KeyStage, Rejected, Scope
from scstd.protocols.wire.text import Pairs, TextError


@attrs.define
class Parameters:
    """
    What holds for a connection, from the start with the RFC's defaults.
    """

    header_digest: str = "None"
    data_digest: str = "None"
    max_connections: int = 1
    initial_r2t: bool = True
    immediate_data: bool = True
    max_recv_data_segment_length: int = 8192
    """Ours."""
    max_xmit_data_segment_length: int = 8192
    """The initiator's: how long the segments are that we may send."""
    max_burst_length: int = 262144
    first_burst_length: int = 65536
    default_time2wait: int = 2
    default_time2retain: int = 20
    max_outstanding_r2t: int = 1
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    error_recovery_level: int = 0
    task_reporting: str = "RFC3720"
    iscsi_protocol_level: int = 1
    longest_data_in: int = 8192
    """How long those of Data-In may be: no longer than a sequence of them."""
    longest_immediate_data: int = 65536
    """What may come with a command."""

    def settle(self) -> None:
        """
        See that what was agreed on fits together, when all of it is there (section
        6.2): no burst is longer than MaxBurstLength.
        """
        most = self.max_burst_length
        self.first_burst_length = min(self.first_burst_length, most)
        # Whole words, but at the end of a sequence (section 11.7.7).
        self.longest_data_in = min(self.max_xmit_data_segment_length & ~3, most)
        self.longest_immediate_data = (
            self.first_burst_length if self.immediate_data else 0
        )

    def replace(self, other: Parameters) -> None:
        """
        Become what *other* is, for everybody who refers to this.
        """
        for field in attrs.fields(Parameters):
            setattr(self, field.name, getattr(other, field.name))

    def join(self, leading: Parameters) -> None:
        """
        Take over what was agreed on for the session by its *leading* connection.
        """
        for key in KEYS.values():
            if key.scope is Scope.SESSION and key.field is not None:
                setattr(self, key.field, getattr(leading, key.field))


NOT_UNDERSTOOD = "NotUnderstood"
IRRELEVANT = "Irrelevant"
REJECT = "Reject"
RESERVED = frozenset((NOT_UNDERSTOOD, IRRELEVANT, REJECT))
"""Answers: nobody may offer them (section 6.2)."""


def negotiate(
    offers: Pairs,
    stage: KeyStage,
    local: Mapping[str, Any],
    parameters: Parameters,
    context: Mapping[str, str],
    *,
    leading: bool = True,
) -> Pairs:
    """
    Return our answers to *offers*, and put what was agreed on into *parameters*.

    *context* holds what was offered so far, these offers too, and the SessionType.  A
    connection that is not *leading* joins a session: what holds for the session is
    settled.  A value that is rejected leaves the key as it was (section 6.2).

    :raises TextError: an answer was offered as a value, or a declaration is impossible.
    """
    answers: Pairs = []
    for name, offered in offers:
        key = KEYS.get(name)
        if key is None:
            answers.append((name, NOT_UNDERSTOOD))
            continue
        if key.target:
            # A declaration has no answer, and ours holds.  Nobody may have failed to
            # understand it (section 6.2).
            if offered in RESERVED:
                raise TextError(f"{name}={offered}")
            continue
        settled = not leading and key.scope is Scope.SESSION and key.field is not None
        answer: str | None = REJECT
        if not settled and key.stage & stage:
            answer = _agree(key, offered, local, parameters, context)
        if answer is not None:
            answers.append((name, answer))
    return answers


def _agree(
    key: Key,
    offered: str,
    local: Mapping[str, Any],
    parameters: Parameters,
    context: Mapping[str, str],
) -> str | None:
    """
    Return our answer to one offer, None where none is due.
    """
    if key.irrelevant(context):
        return IRRELEVANT
    if offered in RESERVED:
        raise TextError(f"{key.name}={offered} is no offer")
    ours = key.ours(local.get(key.name, key.local), local, context)
    try:
        value, answer = key.values.agree(offered, ours)
    except Rejected:
        if isinstance(key.values, Declared):
            # What is declared cannot be answered (section 7.12).
            raise TextError(f"{key.name}={offered[:60]!r} cannot be") from None
        return REJECT
    if key.field is not None:
        setattr(parameters, key.field, value)
    return answer
