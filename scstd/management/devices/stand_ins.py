# SPDX-License-Identifier: MIT
"""
Devices that are configured, and not opened: for who wants to know what would be
refused, and for who has the configuration while others have the devices.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from scstd.attributes import ConfigurationError
from scstd.management.devices.device import INACTIVE, Device
from scstd.management.devices.devices import Devices
from scstd.management.errors import TreeError, number_of
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.device_attributes import ACTIVE
from scstd.management.state.device_memory import DeviceMemory


# Without a repr: units refer to it, and it to everything there is.
@attrs.define(eq=False, repr=False)
class StandIns(Devices):
    """
    Devices whose units stand in (`scstd.scsi.dormant`): none has a store, or a file in
    the state directory.
    """

    async def add(self, device: DeviceConfiguration) -> None:
        """
        Have one.

        :raises ConfigurationError: it is there already (EEXIST), or another one has its
            state or one of its names.
        """
        self._check_new(device)
        memory = DeviceMemory(Path(device.state_key), self.lane)
        try:
            unit = await self._stand_in(device, memory)
        except ConfigurationError as error:
            if not device.values[ACTIVE.name]:
                raise
            # As one that is opened says it.
            why = f"device {device.name}: {error}"
            raise TreeError(number_of(error), why) from None
        self._named[device.name] = Device(device, unit, memory, INACTIVE)
