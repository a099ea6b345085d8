# SPDX-License-Identifier: MIT
"""
A filter that notes who asks for each call, and which sessions come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from scstd.block.answers import ANSWERS, AT_ONCE
from scstd.filters.base import Filtered
from scstd.interfaces import Asker, IKnowsAsker, ISessions, LunSession, asking

CALLS = tuple(name for name in ("read", "write", *ANSWERS) if "session" not in name)
"""What a store may be called for besides."""


@implementer(IKnowsAsker, ISessions)
class Recorder(Filtered):
    """
    While it is *slow* each call waits until `go` has it made, whoever calls that.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.slow = False
        self.calls: list[tuple[str, Asker | None, tuple[Any, ...]]] = []
        self.sessions: list[tuple[str, LunSession]] = []
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []

    def noted(self, name: str, *args: Any) -> Any:
        """Note a call."""
        self.calls.append((name, asking(), args))
        call = partial(getattr(self.inner, name), *args)
        if not self.slow or name in AT_ONCE or name == "close":
            return call()
        waiting: Deferred[Any] = Deferred()
        self.waiting.append((waiting, call))
        return waiting

    def go(self) -> bool:
        """Make the oldest call that waits; say whether one did."""
        if not self.waiting:
            return False
        waiting, call = self.waiting.pop(0)
        waiting.callback(call())
        return True

    def askers(self, name: str) -> list[Asker | None]:
        """Return who has asked for calls of this name."""
        return [asker for called, asker, _args in self.calls if called == name]

    def session_opened(self, session: LunSession) -> None:
        """Note it, and hand it on."""
        self.sessions.append(("opened", session))
        super().session_opened(session)

    def session_closed(self, session: LunSession) -> None:
        """Note it, and hand it on."""
        self.sessions.append(("closed", session))
        super().session_closed(session)


def _noting(name: str) -> Any:
    def method(self: Recorder, *args: Any) -> Any:
        return self.noted(name, *args)

    return method


for _name in CALLS:
    setattr(Recorder, _name, _noting(_name))
