# SPDX-License-Identifier: MIT
"""
Device handlers and filters: the plugins that open backstores, and wrap them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from scstd.interfaces.commands import ICommandDevice
from scstd.interfaces.stores import IBackstore
from scstd.interfaces.values import Result

if TYPE_CHECKING:
    from scstd.attributes import Attribute as Row


class IDeviceHandler(IPlugin):
    """
    A plugin that opens devices: ``HANDLER <name> { DEVICE ... }`` in scst.conf.

    Plugin modules are imported by every twistd command: they must be light.  Use
    `scstd.plugin.DeviceHandler`, which imports the real code when it is first needed.
    """

    name: str = Attribute("The word that names it in configuration.")
    summary: str = Attribute("One line for --list-handlers.")

    def parameters() -> Sequence[Row[Any]]:
        """
        Return the table of parameters that `open` understands.
        """

    def open(
        reactor: Any, device: str, parameters: Mapping[str, Any]
    ) -> Result[IBackstore | ICommandDevice]:
        """
        Open what the device named *device* is: a backstore, or what takes commands.

        *parameters* holds a checked value for every row of `parameters`.

        :raises ConfigurationError: it cannot be done as configured.
        :raises OSError: it cannot be done now.
        """


class ICheckedHandler(Interface):
    """
    Of a device handler (optional): it can say without opening a device what would be
    wrong with that.
    """

    def check(device: str, parameters: Mapping[str, Any]) -> None:
        """
        See what `IDeviceHandler.open` would find, as far as that can be seen without
        changing, writing or locking anything.  It may be called while the device is
        open, and may wait.

        :raises ConfigurationError: it cannot be done as configured.
        :raises OSError: it cannot be done now.
        """


class IFilter(IPlugin):
    """
    A plugin that wraps a backstore: ``filter "<name> param=value ..."`` in a DEVICE.

    The object that `wrap` returns provides IBackstore and every optional interface of
    the inner store, unless it is the filter's purpose to hide one.
    `scstd.filters.base.Filtered` does that: override only what you change.
    """

    name: str = Attribute("The word that names it in configuration.")
    summary: str = Attribute("One line for --list-filters.")

    def parameters() -> Sequence[Row[Any]]:
        """
        Return the table of parameters that `wrap` understands.
        """

    def wrap(
        reactor: Any, device: str, store: IBackstore, parameters: Mapping[str, Any]
    ) -> Result[IBackstore]:
        """
        Return a store that stands before *store*; closing it closes *store*.

        :raises ConfigurationError: it cannot be done as configured.
        """
