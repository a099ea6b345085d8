# SPDX-License-Identifier: MIT
"""
One device: how it is configured, its logical unit, and what it remembers.
"""

from __future__ import annotations

from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.attributes import ConfigurationError
from scstd.interfaces import Result
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.device_attributes import BIND_ALUA_STATE, FILENAME
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.medium import Aside
from scstd.scsi import removable
from scstd.scsi.unit import LogicalUnit

_log = Logger()

T = TypeVar("T")

INACTIVE = "it is not active"
"""Why a device has no store whose configuration says so."""

STANDBY = "no target group of ours is active (bind_alua_state)"
"""Why a device has none that access states have closed."""


@attrs.define(eq=False)
class Device:
    """
    A device: open, or, if it is *missing* for some reason, without its store.
    """

    configuration: DeviceConfiguration
    unit: LogicalUnit
    memory: DeviceMemory
    missing: str = ""
    aside: list[Aside] = attrs.field(factory=list)
    """What is remembered of other media that it had."""
    _asked: int = 0
    _waiting: list[Deferred[None]] = attrs.field(factory=list)

    async def answer(self, result: Result[T]) -> T:
        """
        Return what the store answers to what a person has asked of it: until then it is
        not closed (`answered`).
        """
        if not isinstance(result, Deferred):
            return result
        self._asked += 1
        try:
            return await result
        finally:
            self._asked -= 1
            if not self._asked:
                waiting, self._waiting = self._waiting, []
                for one in waiting:
                    one.callback(None)

    async def answered(self) -> None:
        """
        Wait until the store has answered everything that was asked by a person.
        """
        while self._asked:
            last: Deferred[None] = Deferred()
            self._waiting.append(last)
            await last

    @property
    def put_aside(self) -> list[str]:
        """What is remembered and not gone on with, for a person."""
        stays = self.memory.foreign
        return [
            *([f"{self.memory.path.name}: {stays}"] if stays else []),
            *(str(one) for one in self.aside),
        ]

    @property
    def name(self) -> str:
        """Its name."""
        return self.configuration.name

    @property
    def handler(self) -> str:
        """The name of its handler."""
        return self.configuration.handler.name

    @property
    def state(self) -> str:
        """Whether it is open, in words: else why not."""
        if not self.missing:
            return "open"
        return f"{'missing' if self.lost else 'closed'}: {self.missing}"

    @property
    def lost(self) -> bool:
        """Whether it should be open, and cannot."""
        return self.missing not in {"", INACTIVE, STANDBY}

    @property
    def bound(self) -> bool:
        """Whether access states open and close it."""
        said = self.configuration.values[BIND_ALUA_STATE.name]
        if said is None:
            return self.handler == "vdisk_blockio"
        return bool(said)

    async def change_medium(self, medium: str, *, force: bool = False) -> None:
        """
        Put another medium into a drive, or none: what its attribute filename says.

        :raises ConfigurationError: it is no drive, there is no such medium, or an
            initiator prevents removal and there is no *force*.
        """
        if self.unit.volume.can.drive is None:
            raise ConfigurationError(f"{self.name} is no drive: its medium stays")
        try:
            await removable.change(self.unit, medium, force=force)
        except (removable.RemovalPrevented, OSError) as error:
            raise ConfigurationError(f"the medium of {self.name}: {error}") from error
        _log.info(
            "device {name}: {medium}, {blocks} blocks",
            name=self.name,
            medium=medium or "no medium",
            blocks=self.unit.blocks,
        )
        values = {**self.configuration.values, FILENAME.name: medium}
        self.configuration = attrs.evolve(self.configuration, values=values)
