# SPDX-License-Identifier: MIT
"""
Relative target port identifiers where the targets are in several processes: the front
gives out the numbers of all, workers ask for those of theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import attrs

from scstd.management.ports.ports import Ports

Ask = Callable[[dict[str, int | None], dict[str, int]], Awaitable[dict[str, int]]]
"""Asks the front: takes and returns what `Ports.number` does."""


@attrs.define(eq=False)
class WorkerPorts(Ports):
    """
    The numbers of a worker's targets, and those of all others that the front told of.
    """

    ask: Ask = attrs.field(kw_only=True)
    known: Mapping[str, int] = attrs.field(factory=dict)

    async def number(
        self, ours: Mapping[str, int | None], theirs: Mapping[str, int]
    ) -> dict[str, int]:
        """
        Return every port's number; the front is asked if it may be another one.

        :raises ConfigurationError: two would have the same, or it cannot be remembered.
        """
        known = self.known
        claims = [*theirs.items(), *(one for one in ours.items() if one[1] is not None)]
        if not ours.keys() <= known.keys() or any(
            known.get(port) != number for port, number in claims
        ):
            self.known = known = await self.ask(dict(ours), dict(theirs))
        return dict(known)
