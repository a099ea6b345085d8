# SPDX-License-Identifier: MIT
"""
iSNS messages as bytes (RFC 4171 section 5): a header, then attributes.

A message is one or more PDUs with the same transaction; `Messages` puts them together.
An attribute is a tag, a length and a value padded to four bytes.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from enum import IntEnum

import attrs

HEADER = struct.Struct(">HHHHHH")
"""Version, function, PDU length, flags, transaction, sequence (section 5.1)."""

MAX_PAYLOAD_LENGTH = 65532
"""Longest payload of a PDU in bytes: a multiple of four below 64 KiB."""

MAX_MESSAGE_LENGTH = 1 << 22
"""Longest message taken, in bytes."""

CLIENT, SERVER, REPLACE, LAST, FIRST = 0x8000, 0x4000, 0x1000, 0x0800, 0x0400
"""Flags of the header (section 5.1.4)."""

RESPONSE = 0x8000
"""Added to a function's number in the response to it."""


class Function(IntEnum):
    """
    Functions (RFC 4171 section 4.1.3, table 2).
    """

    DEV_ATTR_REG = 0x0001
    DEV_ATTR_QRY = 0x0002
    DEV_DEREG = 0x0004
    SCN_REG = 0x0005
    SCN_DEREG = 0x0006
    SCN = 0x0008
    ESI = 0x000D


class ISNSStatus(IntEnum):
    """
    What a response says of its request (RFC 4171 section 5.4).
    """

    SUCCESSFUL = 0
    UNKNOWN_ERROR = 1
    MESSAGE_FORMAT_ERROR = 2
    INVALID_REGISTRATION = 3
    INVALID_QUERY = 5
    SOURCE_UNKNOWN = 6
    SOURCE_ABSENT = 7
    SOURCE_UNAUTHORIZED = 8
    NO_SUCH_ENTRY = 9
    VERSION_NOT_SUPPORTED = 10
    INTERNAL_ERROR = 11
    BUSY = 12
    OPTION_NOT_UNDERSTOOD = 13
    INVALID_UPDATE = 14
    MESSAGE_NOT_SUPPORTED = 15
    SCN_EVENT_REJECTED = 16
    SCN_REGISTRATION_REJECTED = 17
    ATTRIBUTE_NOT_IMPLEMENTED = 18
    ESI_NOT_AVAILABLE = 21
    INVALID_DEREGISTRATION = 22
    REGISTRATION_FEATURE_NOT_SUPPORTED = 23


def status_name(status: int | None) -> str:
    """
    Return a status in words, for people.
    """
    try:
        return ISNSStatus(status or 0).name.replace("_", " ").lower()
    except ValueError:
        return f"status {status}"


class Tag(IntEnum):
    """
    Attributes (RFC 4171 section 6, table 5).
    """

    DELIMITER = 0
    ENTITY_IDENTIFIER = 1
    ENTITY_PROTOCOL = 2
    REGISTRATION_PERIOD = 6
    PORTAL_IP_ADDRESS = 16
    PORTAL_TCP_UDP_PORT = 17
    ESI_INTERVAL = 19
    ESI_PORT = 20
    SCN_PORT = 23
    ISCSI_NAME = 32
    ISCSI_NODE_TYPE = 33
    ISCSI_ALIAS = 34
    ISCSI_SCN_BITMAP = 35
    PG_TAG = 51


ISCSI_PROTOCOL = 2
"""The entity protocol iSCSI."""

TARGET, INITIATOR = 1, 2
"""Bits of the iSCSI node type."""

SCN_BITMAP = 0x80 | 0x10 | 0x08 | 0x04
"""
Changes of which we want to hear: initiators, and ourselves, removed from our domains,
added, updated (section 6.4.4).  The other bits are for nodes that manage the network.
"""

Attributes = list[tuple[int, bytes]]


class ISNSError(Exception):
    """
    What the other side sent is no iSNS message.
    """


@attrs.define
class Message:
    """
    One message: its function (a response has `RESPONSE` in it) and attributes; *status*
    is that of a response.
    """

    function: int
    transaction: int
    attributes: Attributes
    flags: int = 0
    status: int | None = None


MAX_ENTITY_NAME_LENGTH = 255
"""Bytes of an entity's name, without its NUL."""

SERVERS_NAMES = "isns:"
"""How the names of entities begin that servers make (section 6.2.1)."""


def text(value: str, longest: int | None = None) -> bytes:
    """
    Return a string as a value: UTF-8, cut at *longest* bytes, a NUL, padded.
    """
    data = value.encode()[:longest].decode("utf-8", "ignore").encode() + b"\0"
    return data + bytes(-len(data) % 4)


def number(value: int) -> bytes:
    """
    Return a 32-bit number as a value.
    """
    return value.to_bytes(4, "big")


def address(value: str) -> bytes:
    """
    Return an IP address as a value: IPv6, or IPv4 mapped to it.
    """
    found = ipaddress.ip_address(value.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return bytes(10) + b"\xff\xff" + found.packed
    return found.packed


def string_of(value: bytes) -> str:
    """
    Return the string in a value.
    """
    return value.rstrip(b"\0").decode("utf-8", "replace")


def encode(message: Message) -> bytes:
    """
    Return the PDUs of a message.
    """
    body = b"" if message.status is None else number(message.status)
    body += b"".join(
        struct.pack(">II", tag, len(value)) + value for tag, value in message.attributes
    )
    pieces = [
        body[at : at + MAX_PAYLOAD_LENGTH]
        for at in range(0, len(body), MAX_PAYLOAD_LENGTH)
    ] or [b""]
    pdus = []
    for sequence, piece in enumerate(pieces):
        flags = message.flags
        flags |= FIRST if not sequence else 0
        flags |= LAST if sequence == len(pieces) - 1 else 0
        pdus.append(
            HEADER.pack(
                1, message.function, len(piece), flags, message.transaction, sequence
            )
            + piece
        )
    return b"".join(pdus)


def decode(function: int, transaction: int, flags: int, body: bytes) -> Message:
    """
    Return the message whose payload is *body*.

    :raises ISNSError: it is malformed.
    """
    status = None
    if function & RESPONSE:
        if len(body) < 4:
            raise ISNSError("a response without a status")
        status, body = int.from_bytes(body[:4], "big"), body[4:]
    found: Attributes = []
    at = 0
    while at < len(body):
        if at + 8 > len(body):
            raise ISNSError("an attribute is cut off")
        tag, length = struct.unpack_from(">II", body, at)
        at += 8
        if at + length > len(body):
            raise ISNSError("an attribute's value is cut off")
        found.append((tag, body[at : at + length]))
        at += length + -length % 4
    return Message(function, transaction, found, flags, status)


@attrs.define(eq=False)
class Messages:
    """
    Bytes in, messages out.
    """

    _buffer: bytearray = attrs.field(factory=bytearray)
    _body: bytearray = attrs.field(factory=bytearray)
    _part_of: tuple[int, int] | None = None
    """Function and transaction of the message that is not whole yet."""

    def feed(self, data: bytes) -> Iterable[Message]:
        """
        Yield the messages that are whole with this.

        :raises ISNSError: the stream is not iSNS, or a message is too long.
        """
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            version, function, length, flags, transaction, _sequence = (
                HEADER.unpack_from(self._buffer)
            )
            if version != 1:
                raise ISNSError(f"version {version}")
            if len(self._buffer) < HEADER.size + length:
                return
            piece = bytes(self._buffer[HEADER.size : HEADER.size + length])
            del self._buffer[: HEADER.size + length]
            if flags & FIRST:
                self._body.clear()
                self._part_of = function, transaction
            elif self._part_of != (function, transaction):
                raise ISNSError("a part of no message")
            self._body += piece
            if len(self._body) > MAX_MESSAGE_LENGTH:
                raise ISNSError("a message is too long")
            if flags & LAST:
                self._part_of = None
                yield decode(function, transaction, flags, bytes(self._body))
