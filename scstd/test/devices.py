# SPDX-License-Identifier: MIT
"""
Devices that take whole commands, for tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from scstd.interfaces import (
    Asker,
    Buffer,
    CommandAnswer,
    ICommandDevice,
    ISessions,
    LunSession,
)

CHECK = 0x02


def sense(key: int, asc: int, *, descriptor: bool = False) -> bytes:
    """
    Return sense data.
    """
    code = asc.to_bytes(2, "big")
    if descriptor:
        return bytes((0x72, key)) + code + bytes(4)
    return bytes((0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0)) + code + bytes(4)


@implementer(ICommandDevice, ISessions)
class ManualDevice:
    """
    A device that answers what *answer* returns for a CDB, or, while it is *slow*, what
    it is told to (`end`).
    """

    def __init__(self, answer: Callable[..., Any] | None = None, kind: int = 3) -> None:
        self.device_type = kind
        self.answer = answer or (lambda *_command: CommandAnswer())
        self.slow = False
        self.calls: list[tuple[bytes, bytes, int, Asker]] = []
        self.waiting: list[Deferred[Any]] = []
        self.aborted: list[Asker] = []
        self.resets = 0
        self.reset_over: Any = None
        self.closed = 0
        self.sessions: list[tuple[str, LunSession]] = []

    def execute(
        self, cdb: bytes, data_out: Buffer, data_in_length: int, asker: Asker
    ) -> Any:
        """Note it, and answer."""
        self.calls.append((cdb, bytes(data_out), data_in_length, asker))
        if not self.slow:
            return self.answer(cdb, bytes(data_out), data_in_length)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def end(self, answer: Any = None) -> None:
        """End the oldest command that waits."""
        self.waiting.pop(0).callback(CommandAnswer() if answer is None else answer)

    @property
    def opcodes(self) -> list[int]:
        """The operation codes that have come."""
        return [cdb[0] for cdb, *_more in self.calls]

    def abort(self, asker: Asker) -> None:
        """Note it."""
        self.aborted.append(asker)

    def reset(self) -> Any:
        """Note it."""
        self.resets += 1
        return self.reset_over

    def close(self) -> None:
        """Note it."""
        self.closed += 1

    def session_opened(self, session: LunSession) -> None:
        """Note it."""
        self.sessions.append(("opened", session))

    def session_closed(self, session: LunSession) -> None:
        """Note it."""
        self.sessions.append(("closed", session))
