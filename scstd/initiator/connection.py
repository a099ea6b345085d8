# SPDX-License-Identifier: MIT
"""
An initiator's side of one connection, sans-IO: PDUs out as bytes, bytes in as PDUs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import RESERVED_TAG, STATUS
from scstd.protocols.wire.framing import append
from scstd.protocols.wire.pdu import PDU, R2T, DataIn, NOPIn


def on_the_wire(pdu: PDU, header_digest: bool, data_digest: bool) -> bytes:
    """
    Return a PDU with its padding and digests.
    """
    output: list[Any] = []
    append(
        output,
        pdu.encode(),
        pdu.data,
        header_digest=header_digest,
        data_digest=data_digest,
    )
    return b"".join(output)


def octets(output: Iterable[Buffer]) -> bytes:
    """
    Return the bytes of a connection's output.
    """
    return b"".join(output)


def has_status(pdu: Any) -> bool:
    """
    Say whether a PDU of the target has a StatSN of its own.
    """
    if isinstance(pdu, DataIn):
        return bool(pdu.flags & STATUS)
    if isinstance(pdu, NOPIn):
        return pdu.itt != RESERVED_TAG
    return not isinstance(pdu, R2T)
