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

A plugin that cannot be used (its module cannot be imported, its tables are none, its
name is another's) is in `broken`, and is found by nobody.
"""

from __future__ import annotations

import importlib
import inspect
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

from scstd.attributes import Attribute, ConfigurationError, unknown
from scstd.installed import Broken, Installed, installed, mark_broken, words
from scstd.interfaces import (
    IBackstore,
    ICheckedHandler,
    ICommandDevice,
    IDeviceHandler,
    IFilter,
    ITargetDriver,
    ITargetDriverInstance,
    Result,
)

_ROW = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@implementer(IPlugin, IDeviceHandler, ICheckedHandler)
@attrs.frozen
class DeviceHandler:
    """
    A device handler whose code is in *module*; *device_type* is the peripheral device
    type of its devices (SPC-5, standard INQUIRY data): 0 is a disk, 5 a CD/DVD drive.
    The module may define ``check``, too (`ICheckedHandler`).
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
    ) -> Result[IBackstore | ICommandDevice]:
        """Call the module's ``open``."""
        opened: Result[IBackstore | ICommandDevice] = _load(self.module).open(
            reactor, device, parameters
        )
        return opened

    def check(self, device: str, parameters: Mapping[str, Any]) -> None:
        """Call the module's ``check``, if it has one."""
        check = getattr(_load(self.module), "check", None)
        if check is not None:
            check(device, parameters)


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

    It may define ``target_name`` and ``default_target_name``, too; without them any
    name will do, and the target is named as this host.
    """

    name: str
    summary: str
    module: str
    port: int | None = None
    default: bool = False

    def target_name(self, name: str) -> tuple[str, str]:
        """Call the module's ``target_name``, if it has one."""
        known = getattr(_load(self.module), "target_name", None)
        found: tuple[str, str] = (name, "") if known is None else known(name)
        return found

    def default_target_name(self) -> str:
        """Call the module's ``default_target_name``, or return this host's name."""
        named = getattr(_load(self.module), "default_target_name", socket.gethostname)
        found: str = named()
        return found

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

    :raises ConfigurationError: it cannot be imported, whatever it raises.
    """
    try:
        return importlib.import_module(module)
    except BaseException as error:
        # Also SystemExit: a module may be a script.
        raise ConfigurationError(f"cannot import {module}: {words(error)}") from error


def rows_of(call: Callable[[], Iterable[Attribute[Any]]]) -> list[Attribute[Any]]:
    """
    Return a table of attributes of a plugin's.

    :raises ConfigurationError: it is none.
    """
    try:
        rows = list(call())
    except ConfigurationError:
        raise
    except BaseException as error:
        raise ConfigurationError(f"it has no table: {words(error)}") from error
    seen: set[str] = set()
    for row in rows:
        _see(row)
        if row.name in seen:
            raise ConfigurationError(f"its table has {row.name} twice")
        seen.add(row.name)
    return rows


def _see(row: Any) -> None:
    """
    See that a row is one, and can be shown.
    """
    if not isinstance(row, Attribute):
        raise ConfigurationError(f"its table has {row!r:.60}: no Attribute")
    name: Any = row.name
    if not isinstance(name, str) or not _ROW.fullmatch(name):
        raise ConfigurationError(f"its table has the name {name!r:.60}")
    try:
        text = "" if row.default is None else row.kind.render(row.default)
        texts = (text, row.kind.describe(), row.help)
    except BaseException as error:
        raise ConfigurationError(f"its row {row.name}: {words(error)}") from error
    if not all(isinstance(one, str) for one in texts):
        raise ConfigurationError(f"its row {row.name} has no text for help or default")


def device_handlers() -> list[IDeviceHandler]:
    """
    Return the device handlers that can be used, by name.
    """
    return _usable(IDeviceHandler)


def filters() -> list[IFilter]:
    """
    Return the filters that can be used, by name.
    """
    return _usable(IFilter)


def target_drivers() -> list[ITargetDriver]:
    """
    Return the target drivers that can be used, by name.
    """
    return _usable(ITargetDriver)


def broken(interface: Any) -> list[Broken]:
    """
    Return the installed plugins of a kind that cannot be used, and why; those whose
    kind cannot be known are of each.
    """
    found = _installed(interface)
    again = [_trouble(interface, one) for one in found.plugins]
    return sorted(
        [*found.broken, *(one for one in again if one is not None)],
        key=lambda one: one.name,
    )


_found: dict[tuple[Any, Any], Installed] = {}
"""What was found, for looking takes milliseconds: by who looked, and for what."""

_good: set[int] = set()
"""Those whose tables were looked at, by identity: plugins are never let go."""

_TABLES: dict[Any, tuple[str, ...]] = {
    IDeviceHandler: ("parameters",),
    IFilter: ("parameters",),
    ITargetDriver: ("attributes", "target_attributes", "group_attributes"),
}
_ATTRIBUTES: dict[Any, tuple[str, ...]] = {
    ITargetDriver: ("default", "port", "target_name", "default_target_name"),
}

OF_EVERY_TARGET = frozenset(("enabled", "addr_method", "rel_tgt_id"))
"""What a target has whatever its driver: no driver's table has a row of these names."""

_FUNCTIONS = {IDeviceHandler: "open", IFilter: "wrap", ITargetDriver: "open"}


def _installed(interface: Any) -> Installed:
    key = (installed, interface)
    if key not in _found:
        _found[key] = _alone(installed(interface))
    return _found[key]


def _alone(found: Installed) -> Installed:
    """
    Take out plugins that share a name: nobody can say which is meant.  One of ours
    keeps its own.
    """
    by_name: dict[str, list[Any]] = {}
    for one in found.plugins:
        by_name.setdefault(one.name, []).append(one)
    for name, several in by_name.items():
        ours = [one for one in several if _module(one).startswith("scstd.")]
        if len(several) == 1:
            continue
        kept = ours if len(ours) == 1 else []
        others = [one for one in several if one not in kept]
        found.plugins = [one for one in found.plugins if one not in others]
        if kept:
            for one in others:
                why = f"scstd has one of the name {name}"
                found.broken.append(mark_broken(_module(one), why))
        else:
            modules = ", ".join(_module(one) for one in others)
            why = f"more than one is named {name!r}: {modules}"
            found.broken.append(mark_broken(name, why))
    return found


def _module(plugin: Any) -> str:
    return str(getattr(plugin, "module", None) or type(plugin).__module__)


def _usable(interface: Any) -> list[Any]:
    found = _installed(interface).plugins
    return [one for one in found if _trouble(interface, one) is None]


def _see_plugin(interface: Any, plugin: Any) -> None:
    """
    :raises ConfigurationError: it cannot be imported, or is not what it says.
    """
    summary: Any = plugin.summary
    if not isinstance(summary, str) or "\n" in summary:
        raise ConfigurationError(f"its summary is {summary!r:.60}, which is no line")
    for name in _ATTRIBUTES.get(interface, ()):
        if not hasattr(plugin, name):
            raise ConfigurationError(f"it has no {name}")
    for table in _TABLES[interface]:
        for row in rows_of(getattr(plugin, table)):
            if table == "target_attributes" and row.name in OF_EVERY_TARGET:
                raise ConfigurationError(
                    f"its table of targets has {row.name}, which every target has"
                )
    module = getattr(plugin, "module", None)
    function = _FUNCTIONS[interface]
    code = _load(module) if isinstance(module, str) else plugin
    if not callable(getattr(code, function, None)):
        raise ConfigurationError(f"{_module(plugin)} has no function {function}")


def _trouble(interface: Any, plugin: Any) -> Broken | None:
    """
    Return why a plugin cannot be used, or None.
    """
    if id(plugin) in _good:
        return None
    try:
        _see_plugin(interface, plugin)
    except ConfigurationError as error:
        return mark_broken(plugin.name, str(error), error.__cause__)
    _good.add(id(plugin))
    return None


def find_device_handler(word: str) -> IDeviceHandler:
    """
    Return the device handler named *word*.

    :raises ConfigurationError: there is none, or it cannot be used.
    """
    found: IDeviceHandler = _find(IDeviceHandler, word, "device handler")
    return found


def find_filter(word: str) -> IFilter:
    """
    Return the filter named *word*.

    :raises ConfigurationError: there is none, or it cannot be used.
    """
    found: IFilter = _find(IFilter, word, "filter")
    return found


def default_target_driver() -> ITargetDriver:
    """
    Return the target driver that is meant where none is named: the one that says so,
    or the only one.

    :raises ConfigurationError: there is none, or nobody can say which.
    """
    found = target_drivers()
    # One of ours keeps its place, as it keeps its name.
    said = [one for one in found if one.default]
    said.sort(key=lambda one: not _module(one).startswith("scstd."))
    if not said and len(found) == 1:
        said = found
    if not said:
        names = ", ".join(one.name for one in found) or "none"
        raise ConfigurationError(f"which target driver is not said: {names}")
    return said[0]


def qualified_name(driver: str, target: str) -> str:
    """
    Return the name by which the whole system knows a target of a driver, for drivers
    may have targets of one name: ``DRIVER:TARGET``, but those of the default driver
    keep theirs.

    It is in what is remembered, so it never changes.
    """
    try:
        default = default_target_driver().name
    except ConfigurationError:
        default = ""
    return target if driver == default else f"{driver}:{target}"


def target_name(driver: ITargetDriver, name: str) -> tuple[str, str]:
    """
    Return what a driver says of a target's name (`ITargetDriver.target_name`),
    whatever its code does.

    :raises ConfigurationError: this can be no target's name, or the driver cannot say.
    """
    about = f"target driver {driver.name} cannot say whether {name!r:.300} is a name"
    said = _ask(about, lambda: driver.target_name(name))
    if not isinstance(said, tuple) or [type(one) for one in said] != [str, str]:
        raise ConfigurationError(f"{about}: {said!r:.60} are no two texts")
    return said[0], said[1]


def default_target_name(driver: ITargetDriver) -> str:
    """
    Return what a driver's target of the command line is named when it has no name.

    :raises ConfigurationError: the driver cannot say.
    """
    about = f"target driver {driver.name} has no name for a target"
    said = _ask(about, driver.default_target_name)
    if not isinstance(said, str):
        raise ConfigurationError(f"{about}: {said!r:.60} is no text")
    return said


def _ask(about: str, call: Callable[[], object]) -> object:
    try:
        return call()
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"{about}: {words(error)}") from error


def known_name(driver: ITargetDriver, name: str) -> str:
    """
    Return the name that a driver knows a target by, if it could have this one.
    """
    try:
        return target_name(driver, name)[0]
    except ConfigurationError:
        return name


def find_target_driver(word: str) -> ITargetDriver:
    """
    Return the target driver named *word*.

    :raises ConfigurationError: there is none, or it cannot be used.
    """
    found: ITargetDriver = _find(ITargetDriver, word, "target driver")
    return found


def _find(interface: Any, word: str, what: str) -> Any:
    for plugin in _installed(interface).plugins:
        if plugin.name == word:
            trouble = _trouble(interface, plugin)
            if trouble is None:
                return plugin
            raise ConfigurationError(f"{what} {trouble}")
    for one in _installed(interface).broken:
        if one.name == word:
            raise ConfigurationError(f"{what} {one}")
    names = {plugin.name for plugin in _usable(interface)}
    raise ConfigurationError(unknown(what, word, names))
