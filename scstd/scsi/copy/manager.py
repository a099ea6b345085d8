# SPDX-License-Identifier: MIT
"""
What all logical units of a system share for copies: its ROD tokens, a clock, a way to
let others have their turn.

Both of the latter are injected: nothing in `scstd.scsi` knows a reactor.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, succeed

from scstd.scsi.copy.tokens import TokenTable


def _standing() -> float:
    return 0.0


@attrs.define(eq=False)
class CopyManager:
    """
    One copy manager for a whole system, as far as initiators can tell from tokens.

    *clock* returns seconds that only grow; *later* calls a function in a later turn of
    the reactor, so that a copy between stores that never wait does not keep everybody
    else waiting.  *running* counts copy operations.
    """

    clock: Callable[[], float] = _standing
    later: Callable[[Callable[[], None]], object] | None = None
    running: int = 0
    tokens: TokenTable = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = TokenTable(self.clock)

    def yield_to_reactor(self) -> Deferred[None]:
        """
        Return a Deferred that fires when others have had their turn.
        """
        if self.later is None:
            return succeed(None)
        turn: Deferred[None] = Deferred()
        self.later(lambda: turn.callback(None))
        return turn
