# SPDX-License-Identifier: MIT
"""
How something is done in workers and in the mirror, so that the two agree after it.

A worker does it first.  Where it refuses, the mirror learns what that worker has, for
some of it may be done; where the mirror refuses what a worker has done (a port that is
taken), the worker is told to be as the mirror is.

A worker that is not there refuses, but while a configuration that failed is taken back:
then what is configured is enough, for that is what it comes back with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from scstd.attributes import ConfigurationError
from scstd.management.config.plan import plan
from scstd.management.errors import TreeError
from scstd.management.model.configuration import Configuration
from scstd.workers.front_moves import Moves
from scstd.workers.front_reads import IWorker
from scstd.workers.islands import DEVICE, TARGET, Thing, part, things
from scstd.workers.mirror import MirrorTree, mirrored

_log = Logger()


@attrs.define(eq=False)
class Agreement(Moves):
    """
    The tree of the front, as far as it has things done.
    """

    _mirror: MirrorTree = attrs.field(init=False)
    _back: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._mirror = MirrorTree(self.system)

    async def _done(
        self,
        told: Sequence[IWorker],
        op: tuple[Any, ...],
        mirror: Callable[[], Awaitable[Any]],
    ) -> Any:
        """
        Have workers do something, and then the mirror.
        """
        try:
            await all_of([self._do(one, op) for one in told])
        except (ConfigurationError, OSError):
            for one in told:
                await self._agree(one, teach=len(told) > 1)
            raise
        try:
            done = await mirror()
        except BaseException:
            for one in told:
                await self._agree(one, teach=True)
            raise
        await self.spread(told)
        if told and op[0] != "put" and len(told) == 1 and self._touches(op):
            await self._refresh(told[0])
        return done

    @staticmethod
    def _touches(op: tuple[Any, ...]) -> bool:
        """
        Say whether what is known of devices may have changed.
        """
        return op[1] is not None and str(op[1]).startswith(("devices/", "handlers/"))

    async def _refresh(self, worker: IWorker) -> None:
        try:
            await self._know(*await self.ask(worker, "facts"))
        except TreeError as error:
            _log.warn("{error}", error=error)

    def _do(self, worker: IWorker, op: tuple[Any, ...]) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._do_at(worker, op))

    async def _do_at(self, worker: IWorker, op: tuple[Any, ...]) -> Any:
        try:
            return await self.ask(worker, "do", op)
        except ConfigurationError:
            if self._back and worker.link is None:
                return None
            raise

    async def _agree(self, worker: IWorker, *, teach: bool) -> None:
        """
        Have a worker and the mirror be the same again, if the worker is there.
        """
        if worker.link is None:
            return
        try:
            if teach:
                await self.teach(worker, keep_going=True)
            else:
                await self.learn(worker)
        except (ConfigurationError, OSError) as error:
            _log.error("worker {at}: {error}", at=worker.number, error=error)

    async def learn(self, worker: IWorker) -> None:
        """
        Have the mirror be as a worker is.
        """
        has: Configuration = await self.ask(worker, "configuration")
        now = self.system.configuration()
        for step in plan(now, _replaced(now, has, self.owners, worker.number)):
            await arrived(step.take(self._mirror))
        self.owners.update(dict.fromkeys(things(has), worker.number))
        self._forget()
        await self._refresh(worker)

    def _forget(self) -> None:
        """
        Know nobody of what is not there any more.
        """
        system = self.system
        targets = system.drivers.targets
        gone: list[Thing] = [
            one
            for one in self.owners
            if one.name
            not in (
                system.devices
                if one.kind == DEVICE
                else targets
                if one.kind == TARGET
                else system.device_groups
            )
        ]
        for one in gone:
            del self.owners[one]
            if one.kind == DEVICE:
                self.used.discard(one.name)

    async def _know(self, facts: Any, states: Any) -> None:
        devices, groups = mirrored(self.system)
        devices.know(facts)
        for name, told in states.items():
            live = groups.get(name)
            for group, state in told.items() if live is not None else ():
                own = live.devices.groups.get(group)  # type: ignore[union-attr]
                if own is not None and own.state.name.lower() != state:
                    await live.set_state(group, state)  # type: ignore[union-attr]


def _replaced(
    now: Configuration,
    has: Configuration,
    owners: Mapping[Thing, int],
    worker: int,
) -> Configuration:
    """
    Return what is configured, with the part of one worker as that *has* it.
    """
    rest = part(now, {x: -1 if at == worker else 0 for x, at in owners.items()}, 0)
    found = {one.name: one for one in has.drivers}
    return attrs.evolve(
        now,
        devices=(*rest.devices, *has.devices),
        drivers=tuple(
            attrs.evolve(
                driver,
                targets=(
                    *kept.targets,
                    *(found[driver.name].targets if driver.name in found else ()),
                ),
            )
            for driver, kept in zip(now.drivers, rest.drivers, strict=True)
        ),
        device_groups=(*rest.device_groups, *has.device_groups),
    )


async def arrived(done: Any) -> Any:
    """
    Return a value, waiting for it if it has to be waited for.
    """
    return await done if hasattr(done, "__await__") else done


async def all_of(begun: Sequence[Deferred[Any]]) -> None:
    """
    Wait for all, and raise what the first has that failed.
    """
    for done, result in await DeferredList(begun, consumeErrors=True):
        if not done:
            result.raiseException()
