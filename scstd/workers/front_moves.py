# SPDX-License-Identifier: MIT
"""
Islands that move from one worker to another, or that two are made one of.

Only what nobody uses moves: no initiator is logged in at its targets, and no device of
it would lose anything by being closed and opened again.  A device whose contents are
gone when it is closed may move only while there are none: if it was opened since the
service began and was never a LUN.  Else the change is refused, and the line says who is
logged in, or which device would lose what.

The worker that has an island applies what it has without it, and then the other what it
has with it.  In between nobody finds these targets (`Moves.moving`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
from twisted.logger import Logger

from scstd.attributes import ConfigurationError
from scstd.management.errors import TreeError
from scstd.workers.front_reads import FrontReads, IWorker
from scstd.workers.islands import DEVICE, TARGET, Thing, part
from scstd.workers.mirror import mirrored

_log = Logger()

_MOST = 8
"""Sessions that a refusal names."""


@attrs.define(eq=False)
class Moves(FrontReads):
    """
    The tree of the front, as far as it moves things.
    """

    used: set[str] = attrs.field(factory=set, init=False)
    """Devices that have been LUNs, or were there at the start."""
    moving: set[str] = attrs.field(factory=set, init=False)
    """Targets, by their qualified names, that are on their way."""

    def home(self, target: str) -> IWorker | None:
        """
        Return the worker that has a target, by its qualified name, if it is there, and
        the target not on its way.
        """
        worker = self.worker_of(Thing(TARGET, target))
        if worker is None or worker.link is None or target in self.moving:
            return None
        return worker

    async def join(self, things: Iterable[Thing]) -> None:
        """
        Have things in one worker that are tied, or are to be.

        :raises TreeError: none of the workers that have some can do without (EBUSY).
        """
        sides: dict[int, list[Thing]] = {}
        for one in things:
            if one in self.owners:
                sides.setdefault(self.owners[one], []).append(one)
        if len(sides) < 2:
            return
        held = {at: await self._held(at, side) for at, side in sides.items()}
        stays = [at for at, why in held.items() if why]
        if len(stays) > 1:
            raise TreeError(
                errno.EBUSY,
                "this would join what is in different workers, and none can move: "
                + "; ".join(held[at] for at in stays),
            )
        # What is held stays, else what is largest.
        to = stays[0] if stays else max(sides, key=lambda at: (len(sides[at]), -at))
        for at, side in sides.items():
            if at != to:
                await self._move(side, self.workers[at], self.workers[to])

    async def _held(self, at: int, side: Sequence[Thing]) -> str:
        """
        Return why things cannot leave a worker; nothing if they can.
        """
        worker = self.workers[at]
        targets = [one.name for one in side if one.kind == TARGET]
        found: list[Any] = await self.ask(worker, "sessions", targets)
        if found:
            names = [f"{one.initiator} at {one.target}" for one in found[:_MOST]]
            more = len(found) - _MOST
            return (
                "logged in: "
                + ", ".join(names)
                + (f", {more} more" if more > 0 else "")
            )
        told, _states = await self.ask(worker, "facts")
        mirrored(self.system)[0].know(told)
        for one in side:
            facts = told.get(one.name) if one.kind == DEVICE else None
            if facts is None:
                continue
            if facts.volatile and one.name in self.used:
                return f"device {one.name} would lose what it holds"
            if facts.busy:
                return f"device {one.name} cannot be closed: {facts.busy}"
        return ""

    async def _move(self, side: Sequence[Thing], source: IWorker, to: IWorker) -> None:
        names = {one.name for one in side if one.kind == TARGET}
        self.moving |= names
        before = dict(self.owners)
        try:
            for one in side:
                del self.owners[one]
            await self.teach(source)
            self.owners.update(dict.fromkeys(side, to.number))
            await self.teach(to)
        except BaseException:
            self.owners.clear()
            self.owners.update(before)
            for worker in (to, source):
                await self._taught(worker)
            raise
        finally:
            self.moving -= names
        _log.info(
            "{what} moved from worker {source} to worker {to}",
            what=", ".join(map(str, side)),
            source=source.number,
            to=to.number,
        )

    async def teach(self, worker: IWorker, *, keep_going: bool = False) -> None:
        """
        Have a worker be as the mirror has it.

        :raises ConfigurationError: something cannot be opened there, and all is as it
            was; with *keep_going* it is missing.
        """
        wanted = part(self.system.configuration(), self.owners, worker.number)
        await self.ask(worker, "apply", wanted, keep_going)

    async def _taught(self, worker: IWorker) -> None:
        try:
            await self.teach(worker, keep_going=True)
        except (ConfigurationError, OSError) as error:
            _log.error("worker {at}: {error}", at=worker.number, error=error)

    async def spread(self, done: Sequence[IWorker]) -> None:
        """
        Tell workers of numbers that their targets have got by what others have *done*.
        """
        _devices, groups = mirrored(self.system)
        names, groups.renumbered = groups.renumbered, set()
        homes = {self.owners.get(Thing(TARGET, name)) for name in names}
        numbers = {
            name: target.relative_port
            for name, target in self.system.drivers.targets.items()
        }
        for worker in self.there:
            if worker.number in homes and worker not in done:
                await self.ask(worker, "numbers", numbers)
