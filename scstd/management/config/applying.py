# SPDX-License-Identifier: MIT
"""
Configuration files and the running tree: check, apply, write, clear.

A file with mistakes changes nothing.  One that cannot be carried out (a disk image is
missing, a port is taken) is undone: the plan back to what was there is carried out.

Who says *keep_going* has what cannot be opened be missing instead: such a device is
there, its LUNs are not ready, and the next reload looks for it again
(`scstd.management.ports.activation`).  A plan by which a device loses what it holds
says so; without force, where nothing is taken away, it is refused.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.attributes import ConfigurationError, parse_values
from scstd.management.config.plan import plan
from scstd.management.config.reading import read_file, see_serves
from scstd.management.config.steps import Step, named
from scstd.management.config.writing import save
from scstd.management.errors import TreeError, number_of
from scstd.management.model.attribute_tables import ROOT_ATTRIBUTES
from scstd.management.model.configuration import Configuration
from scstd.management.model.group_configuration import DeviceGroupConfiguration
from scstd.management.model.warnings import warn
from scstd.management.ports.ports import others
from scstd.management.tree.tree import Tree

_log = Logger()


@attrs.define(eq=False)
class Configurator:
    """
    Brings configurations to a tree; *path* is the file that is read when none is named.
    """

    tree: Tree
    path: str | None = None
    keep_going: bool = False

    async def start(
        self,
        configuration: Configuration,
        fixed: Mapping[str, Sequence[str]] | None = None,
        default: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """
        Start a system; *fixed* and *default* are portals (`drivers.Driver`).

        :raises ConfigurationError: something cannot be opened; what was is closed
        again.
        """
        self.tree.system.drivers.load(fixed, default)
        try:
            await self._number(configuration)
            tree = await self.tree.begin(configuration, keep_going=self.keep_going)
            for step in plan(self.tree.system.configuration(), configuration):
                await self._take(step, configuration if self.keep_going else None, tree)
            await self.tree.fresh()
        except BaseException:
            await self.tree.system.close()
            raise

    def plan(self, configuration: Configuration) -> list[Step]:
        """
        Return the steps to a configuration.
        """
        system = self.tree.system
        return plan(system.configuration(), configuration, system.devices)

    def apply(
        self,
        configuration: Configuration,
        *,
        keep: bool = False,
        keep_going: bool = False,
    ) -> Deferred[list[Step]]:
        """
        Make a configuration the running one; with *keep* what is not in it stays
        (`merged`), with *keep_going* devices that cannot be opened are missing.  Fire
        with the steps that led to it.

        :raises ConfigurationError: that cannot be done; what was there is back.
        """
        done: Deferred[list[Step]] = self.tree.change(
            lambda: self._apply(configuration, keep, keep_going or self.keep_going)
        )
        return done

    async def _apply(
        self, wanted: Configuration, keep: bool, keep_going: bool
    ) -> list[Step]:
        await self.tree.fresh()
        before = self.tree.system.configuration()
        # Not before: what runs may have changed while this waited for its turn.
        configuration = merged(before, wanted) if keep else wanted
        steps = self.plan(configuration)
        if keep:
            _see_contents(steps)
        step = None
        try:
            await self.tree.expect(configuration)
            await self._number(configuration)
            for step in steps:
                self.tree.check_open()
                await self._take(step, configuration if keep_going else None)
        except (ConfigurationError, OSError) as error:
            self.tree.check_open()
            _log.error("{step}: {error}; going back", step=step, error=error)
            await self._go_back(before)
            self.tree.system.events.publish("CONFIGURATION_FAILED", error=str(error))
            raise TreeError(
                number_of(error), f"{error} (everything is as it was before)"
            ) from error
        self.tree.system.events.publish("CONFIGURATION_APPLIED", changes=len(steps))
        return steps

    async def _number(self, wanted: Configuration) -> None:
        """
        Have the targets that are to be known by number: with one write for all of them.
        """
        ports = self.tree.system.device_groups.ports
        await ports.number(wanted.rel_tgt_ids(), dict(others(wanted.device_groups)))

    async def _go_back(self, before: Configuration) -> None:
        await self.tree.expect(before, back=True)
        for step in self.plan(before):
            self.tree.check_open()
            try:
                await self._take(step)
            except (ConfigurationError, OSError) as error:
                _log.error("going back: {step}: {error}", step=step, error=error)

    async def _take(
        self,
        step: Step,
        missing: Configuration | None = None,
        tree: Tree | None = None,
    ) -> None:
        """
        Take a step; a device of *missing* that cannot be opened is missing then.
        """
        tree = tree or self.tree
        if step.loses:
            warn(step.loses)
        try:
            done: Any = step.take(tree)
            if hasattr(done, "__await__"):
                await done
        except (ConfigurationError, OSError) as error:
            if step.tried:
                warn(f"{error}: still missing")
                return
            if missing is None or step.verb != "add_device":
                raise
            device = named(missing.devices)[step.words[0]]
            why = str(error).removeprefix(f"device {device.name}: ")
            await tree.do_add_missing(device, why)
            warn(f"device {device.name} is missing, its LUNs are not ready: {why}")

    def named(self, path: str | None) -> str:
        """
        Return the file that is meant.

        :raises TreeError: none is.
        """
        found = path or self.path
        if not found:
            raise TreeError(errno.EINVAL, "there is no configuration file: name one")
        if "\0" in found:
            raise TreeError(errno.EINVAL, f"{found!r}: no path has a NUL in it")
        return found

    def _wanted(self, path: str | None, *, keep: bool) -> Configuration:
        try:
            where = self.named(path)
            found = read_file(where)
            if not keep:
                see_serves(found, where)
        except ConfigurationError as error:
            self.tree.system.events.publish("CONFIGURATION_FAILED", error=str(error))
            raise
        return found

    def preview(self, path: str | None = None, *, keep: bool = False) -> list[Step]:
        """
        Return the steps that `reload` would take.

        :raises ConfigurationError: the file has mistakes.
        """
        wanted = self._wanted(path, keep=keep)
        running = self.tree.system.configuration()
        return self.plan(merged(running, wanted) if keep else wanted)

    async def reload(
        self,
        path: str | None = None,
        *,
        keep: bool = False,
        keep_going: bool = False,
    ) -> list[Step]:
        """
        Apply a file; *keep* and *keep_going* as in `apply`.

        :raises ConfigurationError: it has mistakes, or cannot be carried out.
        """
        wanted = self._wanted(path, keep=keep)
        steps = await self.apply(wanted, keep=keep, keep_going=keep_going)
        _log.info("{path}: {count} changes", path=self.named(path), count=len(steps))
        return steps

    def write(self, path: str | None = None) -> Deferred[str]:
        """
        Write what is configured, when nothing is being changed, to a file; fire with
        its name.

        :raises TreeError: it cannot be written.
        """
        return self.tree.at_rest(lambda: self._write(path))

    def _write(self, path: str | None) -> str:
        where = self.named(path)
        try:
            save(where, self.tree.system.configuration())
        except OSError as error:
            raise TreeError(
                error.errno or errno.EIO, f"{where}: {error.strerror}"
            ) from error
        return where

    def clear(self) -> Deferred[list[Step]]:
        """
        Take everything away.
        """
        return self.apply(Configuration())


def _see_contents(steps: Sequence[Step]) -> None:
    """
    :raises TreeError: a device would lose what it holds, which nobody has asked for.
    """
    lost = [step.loses for step in steps if step.loses]
    if lost:
        raise TreeError(
            errno.EBUSY, f"{'; '.join(lost)} (nothing was changed; -force does it)"
        )


def merged(running: Configuration, added: Configuration) -> Configuration:
    """
    Return what runs with what a file says put over it: nothing is taken away.
    """
    devices = {one.name: one for one in (*running.devices, *added.devices)}
    drivers = {one.name: one for one in running.drivers}
    for driver in added.drivers:
        old = drivers.get(driver.name)
        targets = {} if old is None else {one.name: one for one in old.targets}
        for target in driver.targets:
            was = targets.get(target.name)
            targets[target.name] = target if was is None else _over(was, target)
        drivers[driver.name] = attrs.evolve(driver, targets=tuple(targets.values()))
    groups = {one.name: one for one in running.device_groups}
    for group in added.device_groups:
        before = groups.get(group.name)
        groups[group.name] = group if before is None else _members(before, group)
    return Configuration(
        tuple(devices.values()),
        tuple(drivers.values()),
        tuple(groups.values()),
        {**running.values, **_said(added.values)},
    )


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the attributes of the whole that a file gives a value of their own.
    """
    defaults = parse_values(ROOT_ATTRIBUTES, ())
    return {name: one for name, one in values.items() if one != defaults[name]}


def _members(
    old: DeviceGroupConfiguration, new: DeviceGroupConfiguration
) -> DeviceGroupConfiguration:
    """
    Return a device group with the devices, target groups and ports of both.
    """
    groups = {one.name: one for one in old.groups}
    for one in new.groups:
        was = groups.get(one.name)
        ports = one.ports if was is None else {**was.ports, **one.ports}
        groups[one.name] = attrs.evolve(one, ports=ports)
    return attrs.evolve(
        new,
        devices=tuple(dict.fromkeys((*old.devices, *new.devices))),
        groups=tuple(groups.values()),
    )


def _over(old: Any, new: Any) -> Any:
    """
    Return a target, or a group, with the LUNs, groups and patterns of both.
    """
    luns = {one.lun: one for one in (*old.luns, *new.luns)}
    changes: dict[str, Any] = {
        "luns": tuple(luns[lun] for lun in sorted(luns)),
    }
    if hasattr(new, "patterns"):
        changes["patterns"] = tuple(dict.fromkeys((*old.patterns, *new.patterns)))
    else:
        groups = {one.name: one for one in old.groups}
        for group in new.groups:
            was = groups.get(group.name)
            groups[group.name] = group if was is None else _over(was, group)
        changes["groups"] = tuple(groups.values())
    return attrs.evolve(new, **changes)
