# SPDX-License-Identifier: MIT
"""
Text: ``key=value`` pairs, each ended by a NUL byte (RFC 7143 section 6.1).

A text may be longer than one PDU: all but its last part carry the C bit.  A `Collector`
puts the parts together, up to a limit; `split` cuts what we have to say.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

MAX_KEY_LENGTH = 63
"""Longest key name in characters (RFC 7143 section 6.1)."""

MAX_TEXT_LENGTH = 65536
"""Longest text taken, in bytes, over all the PDUs of one request."""

MAX_KEYS = 1024
"""
Keys that nobody knows in one login or text exchange: each is remembered, and answered
with more bytes than it has.
"""

MAX_VALUE_LENGTH = 4096
"""
Longest value taken, in characters: a binary one has up to 1024 bytes, in hexadecimal
(RFC 7143 section 6.1), and no list of words is longer.
"""

Pairs = list[tuple[str, str]]


class TextError(ValueError):
    """
    The text of a request is malformed or too long.
    """


def decode(data: bytes) -> Pairs:
    """
    Return the pairs of a whole text.

    :raises TextError: it is not a sequence of ``key=value`` NUL.
    """
    pairs: Pairs = []
    if not data:
        return pairs
    if data[-1]:
        raise TextError("the text does not end with a NUL byte")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise TextError("the text is not UTF-8") from None
    for item in text.split("\0"):
        if not item:
            # Several NULs in a row: padding of initiators that are careless.
            continue
        key, equals, value = item.partition("=")
        if not equals or not key or len(key) > MAX_KEY_LENGTH:
            raise TextError(f"not a key=value pair: {item[:80]!r}")
        if len(value) > MAX_VALUE_LENGTH:
            raise TextError(f"{key[:60]!r} has a value of {len(value)} characters")
        pairs.append((key, value))
    return pairs


def encode(pairs: Iterable[tuple[str, str]]) -> bytes:
    """
    Return the text of these pairs.
    """
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs)


def split(data: bytes, longest: int) -> list[bytes]:
    """
    Return *data* in parts of at most *longest* bytes; one part, empty, for no data.
    """
    return [data[at : at + longest] for at in range(0, len(data), longest)] or [b""]


@attrs.define(eq=False)
class Collector:
    """
    Puts the parts of a text together.
    """

    limit: int = MAX_TEXT_LENGTH
    _parts: list[bytes] = attrs.field(factory=list)
    _size: int = 0

    def add(self, part: bytes) -> None:
        """
        Take one more part.

        :raises TextError: the text is longer than the limit.
        """
        self._size += len(part)
        if self._size > self.limit:
            raise TextError(f"the text is longer than {self.limit} bytes")
        self._parts.append(part)

    def take(self) -> Pairs:
        """
        Return the pairs of the whole text, and start anew.
        """
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return decode(data)
