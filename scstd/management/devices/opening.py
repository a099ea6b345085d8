# SPDX-License-Identifier: MIT
"""
Opening a device's store, and putting its filters before it: the code of other people.

Whatever they raise is a device that cannot be opened, and one line that says which
handler or filter it was and what was raised; the traceback is in the log.  What they
return is held to the contract at once (`scstd.block.checked`), each layer by itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.block.checked import Home, StoreFault, checked
from scstd.interfaces import IBackstore, ICommandDevice
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.device_attributes import FILENAME
from scstd.management.real_path import note_silent, silent
from scstd.scsi.checked_device import checked_device
from scstd.scsi.unit import LogicalUnit

_log = Logger()

PATIENCE = 10.0
"""Seconds that opening a store may take."""

LITTLE_PATIENCE = 1.0
"""The same where a file beside it gave no answer lately."""


async def opening(reactor: Any, device: DeviceConfiguration) -> IBackstore:
    """
    Return the store of a device, with its filters; what was opened is closed again
    when one of them cannot be.

    :raises ConfigurationError: it cannot be opened.
    :raises OSError: it cannot be opened now.
    """
    home = _home(reactor)
    handler, who = device.handler, f"handler {device.handler.name}"
    store = await _called(
        device.name,
        who,
        lambda: _in_time(
            reactor, device, handler.open(reactor, device.name, device.values)
        ),
    )
    try:
        if ICommandDevice.providedBy(store):
            store = checked_device(store, device.name, who)
        else:
            store = checked(store, device.name, who, home)
    except BaseException:
        await close_store(store)
        raise
    return await filtered(reactor, device, store)


async def filtered(
    reactor: Any, device: DeviceConfiguration, bottom: Any
) -> IBackstore:
    """
    Return the store of a device with its filters before *bottom*; that is closed when
    one of them cannot be, unless it is lent.

    :raises ConfigurationError: one cannot be.
    """
    home = _home(reactor)
    store = bottom
    try:
        if device.filters and ICommandDevice.providedBy(bottom):
            raise ConfigurationError("it takes commands: filters are for bytes")  # noqa: TRY301
        for one in device.filters:
            who = f"filter {one.filter.name}"
            wrapped = await _wrapped(reactor, device.name, store, one)
            store = checked(wrapped, device.name, who, home)
    except BaseException:
        await close_store(store)
        raise
    store.bottom = bottom
    return IBackstore(store)


def _in_time(reactor: Any, device: DeviceConfiguration, opened: Any) -> Any:
    """
    Return what a handler has opened, or a Deferred of it that does not wait for ever:
    the file may be on a server that does not answer, and others are to be served.
    What comes too late is closed.
    """
    if inspect.iscoroutine(opened):
        opened = Deferred.fromCoroutine(opened)
    if not isinstance(opened, Deferred):
        return opened
    waited: Deferred[Any] = Deferred()
    name, path = device.name, str(device.values.get(FILENAME.name) or "")
    # Of many files on one server only the first is waited for that long.
    patience = LITTLE_PATIENCE if path and silent(path) else PATIENCE

    def give_up() -> None:
        if path:
            note_silent(path)
        waited.errback(ConfigurationError(f"it is not open after {patience:g} seconds"))

    timer = reactor.callLater(patience, give_up)

    def over(result: Any) -> None:
        if timer.active():
            timer.cancel()
            waited.callback(result)
        elif isinstance(result, Failure):
            _log.info(
                "device {name}: {error}", name=name, error=result.getErrorMessage()
            )
        else:
            _log.info("device {name} was opened too late", name=name)
            Deferred.fromCoroutine(close_store(result))

    opened.addBoth(over)
    return waited


def _home(reactor: Any) -> Home | None:
    """
    Return this thread, the reactor's, as the place where stores are to call back.
    """
    hop = getattr(reactor, "callFromThread", None)
    ours = get_ident()
    return None if hop is None else Home(lambda: get_ident() == ours, hop)


def _wrapped(reactor: Any, name: str, store: Any, one: Any) -> Any:
    return _called(
        name,
        f"filter {one.filter.name}",
        lambda: one.filter.wrap(reactor, name, store, one.values),
    )


async def _called(name: str, who: str, call: Callable[[], Any]) -> Any:
    """
    Return what a plugin's function returns, or what that fires with.

    :raises ConfigurationError: it raised what it may not.
    """
    try:
        made = call()
    except BaseException as error:
        raise _explained(name, who, error) from error
    if not (isinstance(made, Deferred) or inspect.iscoroutine(made)):
        return made
    try:
        return await made
    except GeneratorExit:
        raise
    except BaseException as error:
        raise _explained(name, who, error) from error


def _explained(name: str, who: str, error: BaseException) -> Exception:
    """
    Return what is raised for what a plugin has raised.
    """
    if isinstance(error, (ConfigurationError, OSError, StoreFault)):
        return error
    what = f"{type(error).__qualname__}: {' '.join(str(error).split())}".rstrip(": ")
    _log.failure(
        "device {name}: {who} cannot open it",
        failure=Failure(error),
        name=name,
        who=who,
    )
    return ConfigurationError(f"{who} raised {what}")


async def close_store(store: Any) -> None:
    """
    Close a store that is no device after all; that it cannot is logged, no more.
    """
    if not hasattr(store, "close"):
        return
    try:
        closed = store.close()
        if isinstance(closed, Deferred) or inspect.iscoroutine(closed):
            await closed
    except GeneratorExit:
        raise
    except BaseException:  # noqa: BLE001 - it is somebody's, and over
        _log.failure("a store cannot be closed")


def flush_without_waiting(unit: LogicalUnit) -> None:
    """
    Begin to flush a store whose commands do not end: some of its data may be good.
    """
    if unit.volume.read_only:
        return
    with suppress(Exception):
        flushed = unit.store.flush()
        if isinstance(flushed, Deferred):
            flushed.addErrback(lambda _: None)


def close_stores(stores: list[IBackstore]) -> Deferred[Any]:
    """
    Close stores that are no device's; fire when all of them are.
    """
    return DeferredList([Deferred.fromCoroutine(close_store(one)) for one in stores])
