# SPDX-License-Identifier: MIT
"""
An initiator as the contract of target drivers needs it, logged in over any protocol,
and the commands that it sends.
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


def read_cdb(lba: int) -> bytes:
    """
    Return the CDB of a READ(10) of a block.
    """
    return b"\x28\0" + lba.to_bytes(4, "big") + b"\0\0\1\0"


def write_cdb(lba: int) -> bytes:
    """
    Return the CDB of a WRITE(10) of a block.
    """
    return b"\x2a\0" + lba.to_bytes(4, "big") + b"\0\0\1\0"


def key_of(answer: Answer) -> int:
    """
    Return the sense key of an answer.
    """
    return answer.sense[1 if answer.sense[0] & 0x7F >= 0x72 else 2] & 0x0F


def asc_of(answer: Answer) -> int:
    """
    Return the additional sense code and qualifier of an answer.
    """
    at = 2 if answer.sense[0] & 0x7F >= 0x72 else 12
    return int.from_bytes(answer.sense[at : at + 2], "big")


def prout(action: int, kind: int, key: int, new: int) -> tuple[bytes, bytes]:
    """
    Return a PERSISTENT RESERVE OUT: its CDB and its parameter list.
    """
    cdb = bytes((0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0))
    return cdb, key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(8)
