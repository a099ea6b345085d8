# SPDX-License-Identifier: MIT
"""
An initiator as the contract of target drivers needs it: logged in, over any protocol.
"""

from __future__ import annotations

from typing import Protocol


class Answer(Protocol):
    """
    How a command ended, as `Client.do` says it.
    """

    status: int
    data: bytes
    sense: bytes


class Client(Protocol):
    """
    An initiator that is logged in.
    """

    async def do(self, lun: int, cdb: bytes, *, data: bytes = b"") -> Answer:
        """
        Carry out a command at a LUN (0 to 255), with *data*; up to 4096 bytes of
        Data-In are taken of one that has none.  It raises what it likes when the
        session is over.
        """

    async def close(self) -> None:
        """
        Close the connection, without a word.
        """
