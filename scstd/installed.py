# SPDX-License-Identifier: MIT
"""
The plugins that are installed, found so that a broken one harms no other.

Twisted looks into every module under ``twisted/plugins``, of all packages.  One that
cannot be imported, or whose plugin is not what it says, is left out and named here with
its reason in a line; the traceback is in the log at level debug.  Twisted itself would
log it as an error each time anybody looks, which on a terminal is the user's screen.
"""

from __future__ import annotations

import importlib
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import attrs
import twisted.plugin
from twisted.logger import Logger
from twisted.python.modules import getModule

import twisted.plugins

_log = Logger()

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""A name that can be a word of a configuration and a part of a path."""


@attrs.frozen
class Broken:
    """
    A plugin, or a module of plugins, that cannot be used.
    """

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} cannot be used: {self.why}"


@attrs.define
class Installed:
    """
    What was found for an interface.
    """

    plugins: list[Any] = attrs.field(factory=list)
    broken: list[Broken] = attrs.field(factory=list)


_told: set[Broken] = set()
"""Those that the log has already."""


def words(error: BaseException) -> str:
    """
    Return an exception in one line: its type and its text.
    """
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - an exception of somebody's
        text = ""
    if len(text) > 300:
        text = f"{text[:300]}..."
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def mark_broken(
    name: str, why: BaseException | str, error: BaseException | None = None
) -> Broken:
    """
    Return what cannot be used, and why; the log has it once.
    """
    if isinstance(why, BaseException):
        error, why = why, words(why)
    made = Broken(name, why)
    if made not in _told:
        _told.add(made)
        _log.warn("plugin {name} cannot be used: {why}", name=name, why=why)
        if error is not None:
            text = "".join(traceback.format_exception(error))
            _log.debug("plugin {name}: {traceback}", name=name, traceback=text)
    return made


class _Deaf:
    """
    What Twisted logs to while it looks at plugins.
    """

    def err(self, *_args: Any, **_more: Any) -> None:
        """Forget it: `installed` finds it out itself."""

    def msg(self, *_args: Any, **_more: Any) -> None:
        """Forget it: the cache cannot be written, which only costs time."""


@contextmanager
def quietly() -> Iterator[None]:
    """
    Have Twisted find plugins without tracebacks in the log.
    """
    module: Any = twisted.plugin
    before, module.log = module.log, _Deaf()
    try:
        yield
    finally:
        module.log = before


def installed(interface: Any, package: ModuleType | None = None) -> Installed:
    """
    Return the plugins that provide an interface, by name, and what cannot be used.
    """
    package = package or twisted.plugins
    found = Installed()
    with quietly():
        cache = twisted.plugin.getCache(package)
        for one in getModule(package.__name__).iterModules():
            if one.name.rpartition(".")[2] not in cache:
                found.broken.append(mark_broken(one.name, _why(one.name)))
        for dropin in cache.values():
            for plugin in dropin.plugins:
                _adapt(found, interface, plugin, dropin.moduleName)
    found.broken = list(dict.fromkeys(found.broken))
    found.plugins.sort(key=lambda plugin: plugin.name)
    return found


def _adapt(found: Installed, interface: Any, cached: Any, module: str) -> None:
    try:
        plugin = interface(cached, None)
    except BaseException as error:  # noqa: BLE001 - it is somebody's
        found.broken.append(mark_broken(module, error))
    else:
        if plugin is not None:
            _take(found, interface, plugin, module)


def _why(module: str) -> BaseException | str:
    """
    Return why a module cannot be imported.
    """
    try:
        importlib.import_module(module)
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    return "it could not be imported at first"


def _take(found: Installed, interface: Any, plugin: Any, module: str) -> None:
    """
    Add a plugin, if it can be named and has what its interface says.
    """
    try:
        name = plugin.name
        missing = [one for one in interface.names() if not hasattr(plugin, one)]
    except BaseException as error:  # noqa: BLE001 - properties are somebody's code
        found.broken.append(mark_broken(module, error))
        return
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        why = f"its name {name!r:.80} is no word: letters, digits, '_', '.' and '-'"
        found.broken.append(mark_broken(module, why))
    elif missing:
        why = f"it has no {missing[0]} ({interface.__name__})"
        found.broken.append(mark_broken(name, why))
    else:
        found.plugins.append(plugin)
