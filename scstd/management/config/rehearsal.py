# SPDX-License-Identifier: MIT
"""
What a start would find in a configuration, found without starting.

The plan that a start carries out is carried out in a system of its own, that opens no
store and listens nowhere: so what refuses a step there refuses it here, without a
second list of rules.  Of each device the handler is asked what opening it would find
(`scstd.interfaces.ICheckedHandler`), which writes nothing.

What nobody can know before is left: ports that are taken, files that somebody else has
locked, disks that answer wrongly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.interfaces import ICheckedHandler
from scstd.management.config.plan import plan
from scstd.management.config.steps import Step
from scstd.management.devices.stand_ins import StandIns
from scstd.management.grammar.scstconf import Word
from scstd.management.model.configuration import Configuration, DeviceConfiguration
from scstd.management.model.device_attributes import ACTIVE, FILENAME, READ_ONLY
from scstd.management.ports.drivers import Driver, Drivers
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree

Places = Mapping[str, Word]
"""Where a file says what, by the path that it has in the tree."""


class _AtOnce(Lane):
    """
    A lane without threads.
    """

    def call(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        """Call now."""
        return execute(function, *args)


@attrs.define(eq=False, repr=False)
class _Devices(StandIns):
    """
    Devices that are not opened, and need no turn of the reactor.
    """

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.lane = _AtOnce(self.reactor, "state")


@attrs.define(eq=False)
class _Drivers(Drivers):
    """
    Target drivers that do not listen.
    """

    async def listen(self, driver: Driver) -> None:
        """Do nothing."""


def mistakes(
    configuration: Configuration, places: Places
) -> Iterator[ConfigurationError]:
    """
    Yield what a start would refuse.
    """
    yield from _of_devices(configuration, places)
    with TemporaryDirectory() as directory:
        system = System(
            Clock(),
            StateDirectory(Path(directory)),
            devices=_Devices,
            drivers=_Drivers,
        )
        system.drivers.load()
        tree = Tree(system)
        for step in plan(system.configuration(), configuration):
            error = _refused(step, tree)
            if error is not None:
                yield _placed(error, _place(step), places)


def _of_devices(
    configuration: Configuration, places: Places
) -> Iterator[ConfigurationError]:
    files: dict[str, DeviceConfiguration] = {}
    for device in configuration.devices:
        if not device.values[ACTIVE.name]:
            continue
        where = f"devices/{device.name}/{FILENAME.name}"
        try:
            if ICheckedHandler.providedBy(device.handler):
                device.handler.check(device.name, device.values)
            _alone(device, files)
        except ConfigurationError as error:
            yield _placed(error, where, places)
        except OSError as error:
            why = ConfigurationError(error.strerror or str(error))
            yield _placed(why, where, places)


def _alone(device: DeviceConfiguration, files: dict[str, DeviceConfiguration]) -> None:
    """
    :raises ConfigurationError: another device has the file, and one of them writes.
    """
    name = device.values.get(FILENAME.name)
    if not name or getattr(device.handler, "device_type", 0) == _CDROM:
        return
    other = files.setdefault(os.path.realpath(name), device)
    if other is device:
        return
    if not (device.values[READ_ONLY.name] and other.values[READ_ONLY.name]):
        raise ConfigurationError(f"{name} is device {other.name}'s already")


_CDROM = 5


def _refused(step: Step, tree: Tree) -> ConfigurationError | None:
    """
    Take a step; return why it is refused, if it is.
    """
    if step.verb == "set_attribute" and step.words[0] == "enabled":
        # It would begin to work.
        return None
    found: list[ConfigurationError] = []

    async def taken() -> None:
        try:
            done = step.take(tree)
            if hasattr(done, "__await__"):
                await done
        except ConfigurationError as error:
            found.append(error)

    # All that it waits for is there at once.
    Deferred.fromCoroutine(taken()).addErrback(lambda _: None)
    return found[0] if found else None


def _place(step: Step) -> str:
    """
    Return the path of what a step is about.
    """
    if step.verb == "add_device":
        return f"devices/{step.words[0]}"
    if step.verb in {"set_attribute", "set_target_attribute"}:
        count = 1 if step.verb == "set_attribute" else 2
        return "/".join((step.path, *step.words[:count]))
    return "/".join((step.path, *step.words[:1]))


def _placed(error: ConfigurationError, path: str, places: Places) -> ConfigurationError:
    """
    Return an error with the place in the file of what it is about, as near as it is
    known.
    """
    while path and path not in places:
        path = path.rpartition("/")[0]
    if path not in places:
        return error
    word = places[path]
    return word.wrong(str(error).removeprefix(f"device {word.text}: "))
