# SPDX-License-Identifier: MIT
"""
Taking turns: commands that change one thing, one after the other.

Like Twisted's DeferredLock, but that thousands may wait: who is let in by another's
`release`, and releases at once, does not pile up on the stack.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from scstd.interfaces import carried


@attrs.define(eq=False)
class Mutex:
    """
    *taken* says that somebody has a turn.
    """

    taken: bool = False
    _waiting: deque[Deferred[None]] = attrs.field(factory=deque)
    _passing: bool = False

    def acquire(self) -> Deferred[None]:
        """
        Return what fires when it is one's turn, in the order of asking.
        """
        if not self.taken:
            self.taken = True
            return succeed(None)
        turn: Deferred[None] = Deferred()
        self._waiting.append(turn)
        return turn

    def release(self) -> None:
        """
        Let the next one in.
        """
        self.taken = False
        if self._passing:
            return
        self._passing = True
        try:
            while self._waiting and not self.taken:
                self.taken = True
                self._waiting.popleft().callback(None)
        finally:
            self._passing = False

    def run(self, call: Callable[..., Any], *given: Any) -> Deferred[Any]:
        """
        Return what *call* does when it is its turn; the next one comes when it is done.
        """

        def done(result: Any) -> Any:
            self.release()
            return result

        def begin(_turn: None) -> Deferred[Any]:
            return maybeDeferred(call, *given).addBoth(done)

        turn = self.acquire()
        return turn.addCallback(begin if turn.called else carried(begin))
