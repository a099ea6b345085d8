# SPDX-License-Identifier: MIT
"""
The end of a connection, whatever its peer does.

A peer that reads gets all that it was sent, the last answer too; one that does not, or
over TLS never says close_notify, is waited for no longer than `GRACE` seconds: then the
connection is aborted, and its socket, its place and its memory are free.

A TCP socket that is closed while there is something in it that nobody has read resets
the connection, and the peer may lose what is on its way to it.  Such a connection is
closed for sending first, and what still comes is dropped, for `LINGER` seconds or until
the peer closes too (RFC 1122 section 4.2.2.13).
"""

from __future__ import annotations

import fcntl
import struct
import termios
from typing import Any

import attrs

GRACE = 5.0
"""Seconds without a sign that the peer takes what it was sent."""

LONGEST = 30.0
"""Seconds that a close may take, however slowly the peer reads."""

LINGER = 2.0
"""Seconds in which what still comes is dropped."""


def unread(transport: Any) -> bool:
    """
    Say whether something has come that is not read from the socket yet.
    """
    try:
        found = fcntl.ioctl(transport.getHandle(), termios.FIONREAD, bytes(4))
    except (AttributeError, OSError, TypeError, ValueError):
        return False
    return bool(struct.unpack("i", found)[0])


@attrs.define(eq=False)
class Closing:
    """
    The close of one transport, wanted at *since*; *half* says that it is closed for
    sending alone so far.
    """

    transport: Any
    since: float
    half: bool = False

    def start(self, *, linger: bool) -> None:
        """
        Close, for everything is sent; *linger* if the peer may be sending.

        Not before: a transport of TLS forgets what a producer gives it after that.
        """
        self.half = linger
        if linger:
            self.transport.loseWriteConnection()
            # It may have been paused: what comes is to be dropped.
            self.transport.resumeProducing()
        else:
            self.transport.loseConnection()

    def look(self, now: float, blocked_since: float | None) -> None:
        """
        Go on with it; *blocked_since* is when the peer took something last, None if
        there is nothing left for it.
        """
        if self.half and blocked_since is None and now - self.since >= LINGER:
            self.half = False
            self.transport.loseConnection()
        last = max(self.since - GRACE + 1.0, blocked_since or self.since)
        if now - last >= GRACE or now - self.since >= LONGEST:
            self.transport.abortConnection()
