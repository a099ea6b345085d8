# SPDX-License-Identifier: MIT
"""
Texts in the full feature phase, and what SendTargets says (RFC 7143 sections 11.10 and
appendix C).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from scstd.initiator.session import InitiatorSession
from scstd.protocols.wire.codes import FINAL
from scstd.protocols.wire.pdu import TextResponse
from scstd.protocols.wire.text import Collector, Pairs, TextError

MOST_BYTES = 16 << 20
"""Bytes of what a target says to one text: a hundred thousand targets."""

MOST_RESPONSES = 4096
"""Responses to one text: a target that has more to say never ends."""


def exchange_text(
    session: InitiatorSession,
    pairs: Iterable[tuple[str, str]],
    answered: Callable[[Pairs | None], object],
) -> None:
    """
    Say some keys; *answered* is called with all that the target says to it, None if it
    rejects it, is lost, or says what is no text.
    """
    collector = Collector(MOST_BYTES)
    count = 0

    def take(pdu: TextResponse | None) -> None:
        nonlocal count
        count += 1
        if pdu is None or count > MOST_RESPONSES:
            answered(None)
            return
        final = bool(pdu.flags & FINAL)
        try:
            collector.add(bytes(pdu.data))
            found = collector.take() if final else []
        except TextError:
            answered(None)
            return
        if final:
            answered(found)
        else:
            # The rest, please: with the tags that the exchange has (section 11.10).
            more: Any = session.text(itt=pdu.itt, ttt=pdu.ttt, lun=pdu.lun)
            session.request(more, take)

    session.request(session.text(*pairs), take)


def targets_of(pairs: Pairs) -> dict[str, list[str]]:
    """
    Return the addresses (``host:port,tag``) of each target that SendTargets names.
    """
    found: dict[str, list[str]] = {}
    name = ""
    for key, value in pairs:
        if key == "TargetName":
            name = value
            found.setdefault(name, [])
        elif key == "TargetAddress" and name:
            found[name].append(value)
    return found
