# SPDX-License-Identifier: MIT
"""
What a person changes of devices, and asks of them, while initiators use them.

What initiators are told of a change is in the attribute's row
(`scstd.management.model.device_attributes`).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.attributes import find
from scstd.blocking import Lane
from scstd.management.devices.device import Device
from scstd.management.errors import TreeError
from scstd.management.model.configuration import check_identities
from scstd.management.model.device_attributes import (
    BIND_ALUA_STATE,
    FILENAME,
    FILTERS,
    SIZE,
    DeviceAttribute,
    device_rows,
    unit_settings,
)
from scstd.management.model.registry import Registry
from scstd.scsi.unit import LogicalUnit

_log = Logger()


# Without a repr: units refer to it, and it to everything there is.
@attrs.define(eq=False, repr=False)
class DeviceChanges(Registry[Device]):
    """
    The open devices by name, and what can be changed of them; `Devices` opens and
    closes them.
    """

    kind = "device"

    lane: Lane = attrs.field(init=False)
    """The thread that writes the state directory."""

    async def set(self, name: str, attribute: str, value: Any) -> None:
        """
        Give an attribute of a device another value, and tell its initiators.

        :raises TreeError: it can only be said when the device is opened (EPERM).
        """
        device = self.find(name)
        if device.configuration.values.get(attribute) == value:
            return
        row = self._row(device, attribute)
        changeable = row.changeable(device.unit)
        if attribute == FILENAME.name and changeable:
            await device.change_medium(value or "")
            return
        if attribute == BIND_ALUA_STATE.name:
            values = {**device.configuration.values, attribute: value}
            device.configuration = attrs.evolve(device.configuration, values=values)
            return
        if not changeable:
            raise TreeError(
                errno.EPERM,
                f"{attribute} of device {name} is settled when it is opened",
            )
        values = {**device.configuration.values, attribute: value}
        check_identities(
            [
                attrs.evolve(one.configuration, values=values)
                if one is device
                else one.configuration
                for one in self._named.values()
            ]
        )
        await device.answer(_change(device.unit, row, values))
        device.configuration = attrs.evolve(device.configuration, values=values)

    def can_change(self, name: str, attribute: str) -> bool:
        """
        Say whether an attribute that is settled at opening can be changed after all.
        """
        device = self._named.get(name)
        if device is None:
            return False
        if attribute == FILTERS.name:
            return not device.missing
        return self._row(device, attribute).changeable(device.unit)

    @staticmethod
    def _row(device: Device, attribute: str) -> DeviceAttribute:
        rows = device_rows(device.configuration.handler)
        return find(rows, attribute, "attribute")

    async def settle_aside(self, name: str, text: str) -> None:
        """
        Carry out what a person says of what is put aside: ``forget NAME``, or ``resume
        NAME``, for the medium there will be when the device is opened next.

        :raises TreeError: there is no such thing (ENOENT), or it is something else
            (EINVAL).
        """
        device = self.find(name)
        words = text.split()
        if len(words) != 2 or words[0] not in {"forget", "resume"}:
            raise TreeError(errno.EINVAL, "expected forget NAME or resume NAME")
        word, which = words
        found = [one for one in device.aside if one.path.name == which]
        if not found:
            raise TreeError(errno.ENOENT, f"device {name} has no {which} put aside")
        device.aside = [one for one in device.aside if one is not found[0]]
        if word == "forget":
            await self.lane.call(found[0].remove)
        else:
            wanted = attrs.evolve(found[0], confirmed=True)
            await self.lane.call(wanted.write)
            device.aside.append(wanted)
        _log.info("device {name}: {text}", name=name, text=" ".join(words))

    def bytes_of(self, name: str) -> int:
        """
        Return how large a device is; 0 without its store.
        """
        device = self._named.get(name)
        return 0 if device is None else device.unit.blocks << device.unit.block_shift

    def is_lost(self, name: str) -> bool:
        """
        Say whether a device should be open, and could not be opened.
        """
        device = self._named.get(name)
        return device is not None and device.lost

    def is_volatile(self, name: str) -> bool:
        """
        Say whether what a device holds is gone when it is closed.
        """
        device = self._named.get(name)
        return device is not None and device.unit.volume.can.volatile

    async def resync(self, name: str) -> None:
        """
        Look at the size of a device's store again.

        :raises TreeError: its store cannot change its size (EOPNOTSUPP).
        """
        device = self.find(name)
        resizing = device.unit.volume.can.resize_notice
        if resizing is None:
            raise TreeError(errno.EOPNOTSUPP, f"the size of device {name} is fixed")
        await device.answer(resizing.resync_size())

    async def sync(self, name: str) -> None:
        """
        Make durable what was written to a device.
        """
        device = self.find(name)
        await device.answer(device.unit.store.flush())


def _change(
    unit: LogicalUnit, row: DeviceAttribute, values: Mapping[str, Any]
) -> Deferred[Any] | None:
    """
    Have a unit take over an attribute from *values*, and tell its initiators.

    :raises ConfigurationError: the store refuses.
    """
    if row.name == SIZE.name:
        resizing = unit.volume.can.resize
        done = None if resizing is None else resizing.resize(values[row.name])
        return done if isinstance(done, Deferred) else None
    unit.configure(unit_settings(values))
    if row.told is not None:
        unit.attention(row.told)
    return None
