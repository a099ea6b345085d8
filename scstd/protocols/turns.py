# SPDX-License-Identifier: MIT
"""
Whose turn it is: the connections that have more to do than one may do at once.

One that asks for very much has its answers made in turns; a hundred such would make one
turn of the reactor a hundred times as long.  So they go on one after the other for
`BUDGET` together, and who is not reached is first after everybody has been received
from.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Protocol

import attrs
from twisted.logger import Logger

_log = Logger()

BUDGET = 0.004
"""
Seconds in a turn of the reactor after which no further one of those goes on.
"""


class Waiting(Protocol):
    """
    Who waits for a turn.
    """

    transport: Any

    def go_on(self) -> None:
        """
        Do what one may do at once.
        """


@attrs.define(eq=False)
class Turns:
    """
    Those that wait for a turn, in a reactor.
    """

    reactor: Any
    waiting: dict[Waiting, None] = attrs.field(factory=dict, init=False)
    """In the order in which it is their turn."""

    def wait(self, one: Waiting) -> None:
        """
        Have *one* go on in a later turn of the reactor.
        """
        if not self.waiting:
            self.reactor.callLater(0, self._go)
        self.waiting[one] = None

    def leave(self, one: Waiting) -> None:
        """
        Forget one: it is gone.
        """
        self.waiting.pop(one, None)

    def _go(self) -> None:
        until = perf_counter() + BUDGET
        waiting, self.waiting = self.waiting, {}
        while waiting:
            one = next(iter(waiting))
            del waiting[one]
            try:
                one.go_on()
            except BaseException:  # noqa: BLE001 - logged
                _log.failure("an error ends {connection}", connection=one)
                one.transport.abortConnection()
            if perf_counter() > until:
                break
        again, self.waiting = self.waiting, waiting
        if again or waiting:
            # Those that have had a turn are behind those that have not.
            waiting.update(again)
            if not again:
                self.reactor.callLater(0, self._go)
