# SPDX-License-Identifier: MIT
"""
The front: its system, its tree, and the workers, put together for the service.

It starts in this order: the processes; each opens its part; and only then does the
mirror follow, whose last steps are to listen.  It ends in reverse: nobody is let in any
more, the workers end their sessions and close their devices, and with their processes
the links go.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from scstd.interfaces import IDividedDriver
from scstd.management.errors import TreeError
from scstd.management.model.configuration import Configuration
from scstd.management.monitor.logs import Levels
from scstd.management.monitor.patience import Patience
from scstd.management.ports.drivers import Driver, Drivers
from scstd.management.state.orphans import Claim
from scstd.management.state.state import StateDirectory
from scstd.plugin import qualified_name
from scstd.workers.front_tree import FrontTree
from scstd.workers.mirror import mirror
from scstd.workers.process import WorkerProcess
from scstd.workers.supervisor import Fleet, Place
from scstd.workers.worker import Settings

_log = Logger()

LAST_WORDS = 0.5
"""Seconds for initiators to take what workers have said last, if we pass that on."""


@attrs.define(eq=False)
class _Listening(Drivers):
    """
    Target drivers that listen here for workers; *listened* is called when that changes.
    """

    listened: Callable[[], None] = attrs.field(default=lambda: None, init=False)

    async def listen(self, driver: Driver) -> None:
        """Listen, and have it known."""
        await super().listen(driver)
        self.listened()


class _Undivided:
    """
    A target driver at work whose targets cannot be in workers: it gets none.
    """

    def __init__(self, name: str, inner: Any) -> None:
        self._name = name
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def add_target(self, _target: Any, _settings: Mapping[str, Any]) -> None:
        """Refuse it."""
        raise _undivided(self._name)


def _undivided(name: str) -> TreeError:
    why = f"targets of target driver {name} cannot be in workers"
    return TreeError(errno.EOPNOTSUPP, f"{why}: it has no part that lets others in")


class Front:
    """
    The front of *count* workers with a state directory.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        state: StateDirectory,
        levels: Levels,
        *,
        keep_going: bool = False,
    ) -> None:
        self.system = mirror(reactor, state, levels, _Listening)
        settings = Settings(state.path, levels.base, keep_going)
        self._claim: Claim | None = None
        self.fleet = Fleet(
            reactor, count, settings, self.system.events.publish, self._process
        )
        self.tree = FrontTree(self.system, workers=self.fleet.places)
        self.fleet.answers = self._answers
        self.fleet.admit = self.tree.admit
        self.fleet.changed.append(self._changed)
        self.fleet.portals = self._portals
        drivers: Any = self.system.drivers
        drivers.listened = self.fleet.tell_portals

    def _process(
        self, reactor: Any, number: int, answers: Mapping[str, Callable[..., Any]]
    ) -> WorkerProcess:
        held = None if self._claim is None else self._claim.workers
        return WorkerProcess(reactor, number, answers, held)

    async def _hold(self) -> None:
        """
        Have it known who the workers belong to, if they are left alone.
        """
        system = self.system
        try:
            self._claim = await system.devices.lane.call(Claim.at, system.state.path)
        except OSError as error:
            _log.warn(
                "who starts after this process was killed may not wait for its"
                " workers: {error}",
                error=error,
            )

    def _answers(self, place: Place) -> Mapping[str, Callable[..., Any]]:
        return {
            "event": lambda event: self.tree.heard(place, event),
            "number": self.tree.number,
        }

    def _changed(self, place: Place) -> None:
        if place.link is None:
            self.tree.lost(place)
            return
        for instance in self._divided().values():
            instance.again()

    def _divided(self) -> dict[str, Any]:
        return {
            name: driver.instance
            for name, driver in self.system.drivers.items()
            if IDividedDriver.providedBy(driver.instance)
        }

    def _portals(self) -> dict[str, Sequence[str]]:
        return {name: list(one.portals()) for name, one in self._divided().items()}

    async def start(
        self,
        configuration: Configuration,
        fixed: Mapping[str, Sequence[str]],
        default: Mapping[str, Sequence[str]],
    ) -> None:
        """
        Have all processes there, with nothing yet; *fixed* and *default* are portals
        (`scstd.management.ports.drivers.Driver`).

        :raises ConfigurationError: one cannot be started, or a target cannot be in any.
        """
        drivers = self.system.drivers
        drivers.load(fixed, default)
        for name, driver in drivers.items():
            if IDividedDriver.providedBy(driver.instance):
                driver.instance.divide(self._giving(name))
            else:
                undivided: Any = _Undivided(name, driver.instance)
                driver.instance = undivided
        for wanted in configuration.drivers:
            found = drivers.get(wanted.name)
            if wanted.targets and isinstance(getattr(found, "instance", 0), _Undivided):
                raise _undivided(wanted.name)
        await self._hold()
        await self.fleet.start()

    def _giving(self, driver: str) -> Callable[[str, Any, int], Deferred[None]]:
        def give(target: str, told: Any, descriptor: int) -> Deferred[None]:
            place: Any = self.tree.home(qualified_name(driver, target))
            if place is None:
                return fail(TreeError(errno.EAGAIN, f"{target} has no worker now"))
            return self.fleet.call(place, "adopt", driver, target, told, fd=descriptor)

        return give

    def serve(self, watch: float = 0.0) -> None:
        """
        Have workers that end from now on come back; and such that give no sign of life
        for *watch* seconds (0: for however long) be ended.
        """
        self.fleet.serve()
        if watch > 0:
            self.fleet.watch(watch)

    def absent(self) -> str:
        """
        Return, for who looks at the service, which workers are not there.
        """
        numbers = ", ".join(map(str, self.fleet.absent()))
        return f"; workers that are not there: {numbers}" if numbers else ""

    async def close(self, patience: Patience) -> None:
        """
        End everything.
        """
        divided = self._divided()
        closed = Deferred.fromCoroutine(self.tree.close(patience))
        try:
            await self.fleet.stop()
            for name, one in divided.items():
                what = f"connections of {name} that pass through the front"
                await patience.within(LAST_WORDS, one.passed_on(), lambda w=what: w)  # type: ignore[misc]
        finally:
            await closed
            if self._claim is not None:
                self._claim.drop()
                self._claim = None

    def hurry(self) -> None:
        """
        Wait for nothing any more.
        """
        self.fleet.hurry()
