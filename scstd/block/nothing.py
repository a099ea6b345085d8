# SPDX-License-Identifier: MIT
"""
The store of a volume whose medium is not there.
"""

from __future__ import annotations

import errno
from typing import Any, NoReturn

from zope.interface import implementer

from scstd.interfaces import Buffer, IBackstore


@implementer(IBackstore)
class Nothing:
    """
    No bytes, in blocks of *block_size*.
    """

    size = 0

    def __init__(self, block_size: int = 512) -> None:
        self.block_size = block_size

    def read(self, offset: int, length: int) -> NoReturn:
        """There is nothing to read."""
        raise _none(offset, length)

    def write(self, offset: int, data: Buffer, fua: bool) -> NoReturn:
        """There is nowhere to write."""
        raise _none(offset, data, fua)

    def flush(self) -> None:
        """Do nothing: nothing was written."""

    def close(self) -> None:
        """Do nothing."""


def _none(*what: Any) -> OSError:
    del what
    return OSError(errno.ENODEV, "the device is not open")
