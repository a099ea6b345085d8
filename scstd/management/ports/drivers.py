# SPDX-License-Identifier: MIT
"""
The target drivers at work, each with its targets, and the ports that it listens on.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from scstd.attributes import ConfigurationError, parse_values
from scstd.interfaces import IReporting, ITargetDriverInstance
from scstd.management.errors import TreeError
from scstd.management.model.group_configuration import NUMBER
from scstd.management.model.portals import endpoints
from scstd.management.model.registry import Registry
from scstd.management.model.target_attributes import KEPT
from scstd.plugin import target_drivers
from scstd.results import settled
from scstd.scsi.target import Target

_log = Logger()


@attrs.define(eq=False)
class Driver:
    """
    A target driver at work.
    """

    name: str
    instance: ITargetDriverInstance
    targets: dict[str, Target] = attrs.field(factory=dict)
    """By their names."""
    portals: tuple[str, ...] = ()
    """Those that are configured."""
    fixed: tuple[str, ...] = ()
    """Those of the command line, which a configuration does not change."""
    default: tuple[str, ...] = ()
    """Where it listens when there are neither."""
    ports: dict[str, Any] = attrs.field(factory=dict)
    """What it listens on, by portal."""
    numbers: dict[str, int] = attrs.field(factory=dict)
    """Relative target port identifiers that are configured."""

    def wanted(self) -> tuple[str, ...]:
        """
        Return the portals it is to listen on.
        """
        return self.fixed or self.portals or self.default

    def values(self) -> dict[str, Any]:
        """
        Return its attributes.
        """
        return {**self.instance.attributes(), "portal": self.portals}

    def values_of(self, target: str) -> dict[str, Any]:
        """
        Return the attributes of one of its targets, as they are configured.
        """
        found = self.targets[target]
        return {
            **{name: getattr(found, name) for name in KEPT},
            NUMBER: self.numbers.get(target),
            **self.instance.attributes_of(target),
        }

    def set_target(self, target: str, name: str, value: Any) -> None:
        """
        Give an attribute of one of its targets, but the number, another value.
        """
        if name in KEPT:
            setattr(self.targets[target], name, value)
            self.instance.target_changed(target)
        else:
            self.instance.set_attribute(target, name, value)


@attrs.define(eq=False)
class Drivers(Registry[Driver]):
    """
    The target drivers by name.
    """

    kind = "target driver"

    reactor: Any
    report: Callable[..., None]
    """What a driver tells its events (`scstd.interfaces.IReporting`)."""
    _stopped: bool = attrs.field(default=False, init=False)

    def load(
        self,
        fixed: Mapping[str, Sequence[str]] | None = None,
        default: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """
        Make every installed target driver ready, with nothing configured.

        *fixed* and *default* are portals by the driver's name (`Driver`).
        """
        for plugin in target_drivers():
            name = plugin.name
            if name in self._named:
                continue
            try:
                rows = plugin.attributes()
                instance = plugin.open(self.reactor, parse_values(rows, ()))
            except ConfigurationError as error:
                _log.warn("target driver {name}: {error}", name=name, error=error)
                continue
            except Exception:  # noqa: BLE001 - somebody's code: the others are to work
                _log.failure("target driver {name} cannot be used", name=name)
                continue
            if IReporting.providedBy(instance):
                instance.report_to(self.report)
            self._named[name] = Driver(
                name,
                instance,
                fixed=tuple((fixed or {}).get(name, ())),
                default=tuple((default or {}).get(name, ())),
            )

    @property
    def targets(self) -> dict[str, Target]:
        """Every driver's targets by their qualified names."""
        return {
            target.qualified_name: target
            for driver in self._named.values()
            for target in driver.targets.values()
        }

    def of(self, target: Target) -> Driver:
        """
        Return the driver that has a target.
        """
        return next(
            one
            for one in self._named.values()
            if one.targets.get(target.name) is target
        )

    async def set(self, name: str, attribute: str, value: Any) -> None:
        """
        Give an attribute of a driver another value.

        :raises ConfigurationError: a port cannot be had; everything is as before.
        """
        driver = self.find(name)
        before = driver.values()[attribute]
        self._put(driver, attribute, value)
        try:
            await self.listen(driver)
        except BaseException:
            self._put(driver, attribute, before)
            raise

    @staticmethod
    def _put(driver: Driver, attribute: str, value: Any) -> None:
        if attribute == "portal":
            driver.portals = value
        else:
            driver.instance.set(attribute, value)

    async def listen(self, driver: Driver) -> None:
        """
        Listen where a driver is to listen, if it is enabled or has listened before.

        :raises TreeError: a port is taken; no other is opened or closed then.
        """
        if not driver.ports and not driver.instance.attributes().get("enabled", True):
            return
        before, wanted = list(driver.ports), driver.wanted()
        try:
            for portal in wanted:
                if portal not in driver.ports:
                    driver.ports[portal] = await self._listen(driver, portal)
        except BaseException:
            await self._keep(driver, before)
            raise
        await self._keep(driver, wanted)

    @staticmethod
    async def _keep(driver: Driver, portals: Sequence[str]) -> None:
        """
        Listen on no other portals than these.
        """
        # One by one: when everything ends, they go meanwhile.
        while going := [one for one in driver.ports if one not in portals]:
            await settled(driver.instance.unlisten(driver.ports.pop(going[0])))

    async def stop(self) -> None:
        """
        End every session and every port, once; there are no new ones.
        """
        if self._stopped:
            return
        self._stopped = True
        # All at once, and none for another: one may hang, or fail.
        for ended in [
            Deferred.fromCoroutine(_stop(driver)) for driver in self._named.values()
        ]:
            await ended

    def clear(self) -> None:
        """
        Have no drivers any more.
        """
        self._named.clear()
        self._stopped = False

    async def _listen(self, driver: Driver, portal: str) -> Any:
        if self._stopped:
            raise TreeError(errno.ESHUTDOWN, "the service stops")
        port = await _listen(driver.instance, portal)
        if self._stopped:
            await settled(driver.instance.unlisten(port))
            raise TreeError(errno.ESHUTDOWN, "the service stops")
        return port


async def _stop(driver: Driver) -> None:
    try:
        await settled(driver.instance.stop())
    except Exception:  # noqa: BLE001 - somebody's code: the others are to end
        _log.failure("target driver {name} does not stop", name=driver.name)
    driver.ports.clear()


async def _listen(driver: ITargetDriverInstance, portal: str) -> Any:
    try:
        return await settled(driver.listen(endpoints(portal)))
    except CannotListenError as error:
        raise TreeError(
            errno.EADDRINUSE, f"cannot listen on {portal}: {error.socketError}"
        ) from error
    except LookupError as error:
        raise TreeError(
            errno.ENOENT,
            f"cannot listen on {portal}: the service manager has not handed over such a"
            " socket",
        ) from error
    except Exception as error:  # whatever an endpoint, or what it calls, raises
        raise TreeError(
            getattr(error, "errno", None) or errno.EINVAL,
            f"cannot listen on {portal}: {error}",
        ) from error
