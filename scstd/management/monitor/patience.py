# SPDX-License-Identifier: MIT
"""
How long is waited for what may never come: a store whose call hangs, a session whose
commands do not end, a change that waits for one of them.

`Patience` waits for something at most so long, and says in the log what it gave up on.
What was given up on goes on: a store that ends its call after all is closed properly
then, if the process is still there.  `Patience.hurry` has nothing waited for any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

_log = Logger()

COMMANDS = 15.0
"""Seconds that commands under way have to end when everything stops."""

AFTER = 2.0
"""Seconds for their sessions to be gone after that."""

CHANGE = 5.0
"""Seconds that the change of the configuration under way has to end after that."""

CLOSING = 15.0
"""Seconds for all devices to be flushed and closed, when everything stops."""

HUNG = 0.25
"""The same for those of which a command has not ended."""

LIVE = 15.0
"""Seconds that one change waits for a store while everything else goes on."""

OPENING = 60.0
"""Seconds for a store to open."""


@attrs.define(eq=False)
class Patience:
    """
    Waits in bounds, by the clock of *reactor*.
    """

    reactor: Any
    hurried: bool = False
    _waits: dict[Deferred[bool], None] = attrs.field(factory=dict)

    async def within(
        self, seconds: float, waited: Awaitable[Any], what: Callable[[], str]
    ) -> bool:
        """
        Wait for *waited*; return whether it came.  If it did not, the log has what
        *what* returns then.

        Whatever *waited* raises in time is raised here; later it goes to the log.
        """
        over: Deferred[bool] = Deferred()
        outcome: list[Any] = []

        def came(result: Any) -> None:
            outcome.append(result)
            if over in self._waits:
                over.callback(True)
            elif isinstance(result, Failure):
                _log.warn("after all: {why}", why=result.getErrorMessage())

        self._waits[over] = None
        _deferred(waited).addBoth(came)
        late = None
        if not over.called:
            if self.hurried:
                self._give_up(over)
            else:
                late = self.reactor.callLater(seconds, self._give_up, over)
        in_time = await over
        self._waits.pop(over, None)
        if late is not None and late.active():
            late.cancel()
        if not in_time:
            _log.warn("not waited for any more: {what}", what=what())
            return False
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return True

    def _give_up(self, over: Deferred[bool]) -> None:
        if self._waits.pop(over, 0) is None:
            over.callback(False)

    def hurry(self) -> None:
        """
        Wait for nothing any more.
        """
        self.hurried = True
        for over in list(self._waits):
            self._give_up(over)


def _deferred(waited: Awaitable[Any]) -> Deferred[Any]:
    return waited if isinstance(waited, Deferred) else ensureDeferred(waited)  # type: ignore[arg-type]
