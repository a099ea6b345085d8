# SPDX-License-Identifier: MIT
"""
Plugins: how they are declared, and how they are found.

A package that brings a device handler puts one line into a module of its own under
``twisted/plugins``::

    from scstd.plugin import DeviceHandler
    mine = DeviceHandler("mine", "Disks made of moonlight", "mypackage.handler")

The module named last is imported when the handler is first used, not before: every
twistd command imports all plugin modules.  It defines ``PARAMETERS`` and ``open`` (a
filter: ``PARAMETERS`` and ``wrap``), as `IDeviceHandler` (`IFilter`) says.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import IPlugin, getPlugins
from zope.interface import implementer

from scstd.attributes import Attribute, ConfigurationError, unknown
from scstd.interfaces import (
    IBackstore,
    IDeviceHandler,
    IFilter,
    ITargetDriver,
    ITargetDriverInstance,
    Result,
)

P = TypeVar("P")


@implementer(IPlugin, IDeviceHandler)
@attrs.frozen
class DeviceHandler:
    """
    A device handler whose code is in *module*; *device_type* is the peripheral device
    type of its devices (SPC-5, standard INQUIRY data): 0 is a disk, 5 a CD/DVD drive.
    """

    name: str
    summary: str
    module: str
    device_type: int = 0

    def parameters(self) -> Sequence[Attribute[Any]]:
        """Return the module's ``PARAMETERS``."""
        table: Sequence[Attribute[Any]] = _load(self.module).PARAMETERS
        return table

    def open(
        self, reactor: Any, device: str, parameters: Mapping[str, Any]
    ) -> Result[IBackstore]:
        """Call the module's ``open``."""
        opened: Result[IBackstore] = _load(self.module).open(
            reactor, device, parameters
        )
        return opened


@implementer(IPlugin, IFilter)
@attrs.frozen
class Filter:
    """
    A filter whose code is in *module*.
    """

    name: str
    summary: str
    module: str

    def parameters(self) -> Sequence[Attribute[Any]]:
        """Return the module's ``PARAMETERS``."""
        table: Sequence[Attribute[Any]] = _load(self.module).PARAMETERS
        return table

    def wrap(
        self,
        reactor: Any,
        device: str,
        store: IBackstore,
        parameters: Mapping[str, Any],
    ) -> Result[IBackstore]:
        """Call the module's ``wrap``."""
        wrapped: Result[IBackstore] = _load(self.module).wrap(
            reactor, device, store, parameters
        )
        return wrapped


@implementer(IPlugin, ITargetDriver)
@attrs.frozen
class TargetDriver:
    """
    A target driver whose code is in *module*: ``ATTRIBUTES``, ``TARGET_ATTRIBUTES``,
    ``GROUP_ATTRIBUTES`` if it has any, and ``open``.
    """

    name: str
    summary: str
    module: str

    def attributes(self) -> Sequence[Attribute[Any]]:
        """Return the module's ``ATTRIBUTES``."""
        table: Sequence[Attribute[Any]] = _load(self.module).ATTRIBUTES
        return table

    def target_attributes(self) -> Sequence[Attribute[Any]]:
        """Return the module's ``TARGET_ATTRIBUTES``."""
        table: Sequence[Attribute[Any]] = _load(self.module).TARGET_ATTRIBUTES
        return table

    def group_attributes(self) -> Sequence[Attribute[Any]]:
        """Return the module's ``GROUP_ATTRIBUTES``, or none."""
        table: Sequence[Attribute[Any]] = getattr(
            _load(self.module), "GROUP_ATTRIBUTES", ()
        )
        return table

    def open(self, reactor: Any, settings: Mapping[str, Any]) -> ITargetDriverInstance:
        """Call the module's ``open``."""
        opened: ITargetDriverInstance = _load(self.module).open(reactor, settings)
        return opened


@implementer(IPlugin, IStreamServerEndpointStringParser)
@attrs.frozen
class ServerEndpoint:
    """
    A kind of server endpoint whose code, ``server_endpoint``, is in *module*.
    """

    prefix: str
    module: str

    def parseStreamServer(  # type: ignore[override]  # noqa: N802
        self, reactor: Any, *args: str, **kwargs: str
    ) -> Any:
        """
        Call the module's ``server_endpoint``.

        :raises ConfigurationError: a parameter is unknown, or missing.
        """
        made = _load(self.module).server_endpoint
        try:
            inspect.signature(made).bind(reactor, *args, **kwargs)
        except TypeError as error:
            raise ConfigurationError(f"{self.prefix}: {error}") from None
        return made(reactor, *args, **kwargs)


def _load(module: str) -> Any:
    """
    Import a plugin's module.

    :raises ConfigurationError: it cannot be imported (an extra is not installed).
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(f"cannot import {module}: {error}") from error


def device_handlers() -> list[IDeviceHandler]:
    """
    Return the installed device handlers, by name.
    """
    return _installed(IDeviceHandler)


def filters() -> list[IFilter]:
    """
    Return the installed filters, by name.
    """
    return _installed(IFilter)


def target_drivers() -> list[ITargetDriver]:
    """
    Return the installed target drivers, by name.
    """
    return _installed(ITargetDriver)


_found: dict[tuple[Any, Any], list[Any]] = {}
"""What was found, for looking takes milliseconds: by who looked, and for what."""


def _installed(interface: Any) -> list[Any]:
    key = (getPlugins, interface)
    if key not in _found:
        _found[key] = sorted(getPlugins(interface), key=lambda plugin: plugin.name)
    return list(_found[key])


def find_device_handler(word: str) -> IDeviceHandler:
    """
    Return the device handler named *word*.

    :raises ConfigurationError: there is none, or there are two.
    """
    return _find(device_handlers(), word, "device handler")


def find_filter(word: str) -> IFilter:
    """
    Return the filter named *word*.

    :raises ConfigurationError: there is none, or there are two.
    """
    return _find(filters(), word, "filter")


def find_target_driver(word: str) -> ITargetDriver:
    """
    Return the target driver named *word*.

    :raises ConfigurationError: there is none, or there are two.
    """
    return _find(target_drivers(), word, "target driver")


def _find(installed: Sequence[P], word: str, what: str) -> P:
    found: list[Any] = [plugin for plugin in installed if _named(plugin, word)]
    if len(found) > 1:
        modules = ", ".join(str(getattr(plugin, "module", plugin)) for plugin in found)
        raise ConfigurationError(f"more than one {what} is named {word!r}: {modules}")
    if not found:
        names = {plugin.name for plugin in installed}  # type: ignore[attr-defined]
        raise ConfigurationError(unknown(what, word, names))
    plugin: P = found[0]
    return plugin


def _named(plugin: Any, word: str) -> bool:
    return bool(plugin.name == word)
