# SPDX-License-Identifier: MIT
"""
What is passed between scstd and other people's packages: results, bytes, errors.
"""

from __future__ import annotations

import errno
import os
from typing import TypeVar, Union

from twisted.internet.defer import Deferred

T = TypeVar("T")

Result = Union[T, "Deferred[T]"]
"""What a backstore's methods return: the value, or a Deferred that fires with it."""

Buffer = bytes | bytearray | memoryview
"""
Bytes as they travel.  Who receives one may read it, never change it, and who hands one
out, not either: it may be sent long after it was returned.
"""

BLOCK_SIZES = tuple(512 << exponent for exponent in range(8))
"""Logical block lengths that a disk may have, in bytes: 512 to 65536."""


class MediumError(OSError):
    """
    An error whose place is known: *offset*, in bytes, is the first byte that is wrong.

    The initiator is told the LBA of that (INFORMATION), not the first of its command.
    """

    def __init__(
        self, offset: int, number: int = errno.EIO, text: str | None = None
    ) -> None:
        super().__init__(number, text or os.strerror(number))
        self.offset = offset
