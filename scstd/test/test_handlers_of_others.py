# SPDX-License-Identifier: MIT
"""
Tests for devices whose handler or filter is somebody's, and lies or breaks.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from scstd import plugin
from scstd.attributes import ConfigurationError
from scstd.installed import Broken, Installed
from scstd.interfaces import IDeviceHandler, IFilter
from scstd.management.errors import TreeError
from scstd.management.model.configuration import (
    DeviceConfiguration,
)
from scstd.management.model.configuration import device as configured
from scstd.management.model.filters import FilterConfiguration
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.test.lying import LyingStore
from scstd.test.stores import memory


@implementer(IDeviceHandler)
@attrs.define
class Handler:
    """
    A handler whose ``open`` is a function.
    """

    opens: Callable[[], Any]
    name: str = "theirs"
    summary: str = ""

    def parameters(self) -> Any:
        """Return none."""
        return ()

    def open(self, reactor: Any, device: str, parameters: Any) -> Any:
        """Open."""
        return self.opens()


@implementer(IFilter)
@attrs.define
class Wrapper:
    """
    A filter whose ``wrap`` is a function.
    """

    wraps: Callable[[Any], Any]
    name: str = "around"
    summary: str = ""

    def parameters(self) -> Any:
        """Return none."""
        return ()

    def wrap(self, reactor: Any, device: str, store: Any, parameters: Any) -> Any:
        """Wrap."""
        return self.wraps(store)


def _raise(error: BaseException) -> Any:
    raise error


class Closing(LyingStore):
    """
    A store that says whether it was closed.
    """

    closed = False

    def close(self) -> Any:
        """Note it."""
        self.closed = True


class OpeningTests(TestCase):
    """
    `Devices.add`.
    """

    def setUp(self) -> None:
        """Make a system."""
        self.system = System(reactor, StateDirectory(Path(self.mktemp())))
        self.addCleanup(self.system.close)

    async def add(self, opens: Callable[[], Any], *wraps: Callable[[Any], Any]) -> Any:
        """Open a device."""
        device: DeviceConfiguration = configured("disk", Handler(opens), ())
        chain = tuple(FilterConfiguration(Wrapper(one), {}) for one in wraps)
        values = {**device.values, "filter": chain}
        await self.system.devices.add(attrs.evolve(device, values=values))
        return self.system.devices["disk"].unit

    async def refused(
        self, opens: Callable[[], Any], *wraps: Callable[[Any], Any]
    ) -> TreeError:
        """Return how a device is refused: in one line."""
        try:
            await self.add(opens, *wraps)
        except TreeError as error:
            self.assertNotIn("\n", str(error))
            self.assertNotIn("disk", self.system.devices)
            return error
        raise AssertionError("it was opened")

    async def test_async(self) -> None:
        """``async def open`` and ``wrap`` work, and Deferreds."""

        async def opens() -> Any:
            await succeed(None)
            return memory()

        async def wraps(store: Any) -> Any:
            return store

        unit = await self.add(opens, wraps, succeed)
        self.assertEqual(unit.blocks, 2048)

    async def test_raises(self) -> None:
        """Whatever it raises is named with its type; the traceback is in the log."""
        for error, said in (
            (RuntimeError("no\nmoon"), "handler theirs raised RuntimeError: no moon"),
            (KeyError("x"), "handler theirs raised KeyError: 'x'"),
            (SystemExit(3), "handler theirs raised SystemExit: 3"),
            (KeyboardInterrupt(), "handler theirs raised KeyboardInterrupt"),
            (StopIteration(), "handler theirs raised StopIteration"),
        ):
            calls: list[Callable[[], Any]] = [
                lambda error=error: _raise(error),  # type: ignore[misc]
                lambda error=error: fail(error),  # type: ignore[misc]
            ]
            # A coroutine, ours, cannot be told StopIteration.
            for opens in calls[: 1 if isinstance(error, StopIteration) else 2]:
                refused = await self.refused(opens)
                self.assertEqual(str(refused), f"device disk: {said}")
                self.assertEqual(refused.errno, errno.EINVAL)
                self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)

    async def test_says(self) -> None:
        """What the contract has for it is passed on as it is, and not logged."""
        for error, said, number in (
            (ConfigurationError("no moon"), "no moon", errno.EINVAL),
            (OSError(errno.ENODEV, "gone"), "gone", errno.ENODEV),
        ):
            refused = await self.refused(lambda error=error: _raise(error))  # type: ignore[misc]
            self.assertEqual(str(refused), f"device disk: {said}")
            self.assertEqual(refused.errno, number)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_no_store(self) -> None:
        """What is no store is refused, whatever it is."""
        for what in (None, "x", object(), Deferred, lambda: None):
            refused = await self.refused(lambda what=what: what)  # type: ignore[misc]
            self.assertIn("handler theirs: it opened", str(refused))
            self.assertIn("which provides no IBackstore", str(refused))
            # It cannot be closed either.
            self.flushLoggedErrors()

    async def test_filter(self) -> None:
        """A filter that breaks is named, and the store that was opened is closed."""
        store = Closing()
        refused = await self.refused(lambda: store, lambda _store: _raise(ValueError()))
        self.assertEqual(str(refused), "device disk: filter around raised ValueError")
        self.assertTrue(store.closed)
        self.flushLoggedErrors(ValueError)
        store = Closing()
        refused = await self.refused(lambda: store, lambda _store: 7)
        self.assertIn("filter around: it opened 7", str(refused))
        self.assertTrue(store.closed)

    async def test_blame(self) -> None:
        """At work, the log names the handler."""
        unit = await self.add(lambda: LyingStore(read=lambda: _raise(KeyError("k"))))
        self.assertRaises(Exception, unit.store.read, 0, 512)  # noqa: B017
        (failure,) = self.flushLoggedErrors(KeyError)
        self.assertEqual(unit.store.who, "handler theirs")
        del failure

    async def test_told(self) -> None:
        """Who asks for something of it by the tree is told what came, with EIO."""
        tree = Tree(self.system)
        await self.add(lambda: LyingStore(flush=lambda: 7))
        with self.assertRaises(TreeError) as caught:
            await tree.write("devices/disk/sync", "1")
        self.assertEqual(
            str(caught.exception), "handler theirs: flush() returned 7, not None"
        )
        self.assertEqual(tree.read("last_sysfs_mgmt_res"), f"{errno.EIO}\n")

    async def test_handler_that_cannot_be_used(self) -> None:
        """A broken handler is in no directory, and who names it is told why."""
        why = Broken("broken", "no moon")
        installed = Installed([Handler(lambda: None)], [why])
        self.patch(plugin, "installed", lambda _interface: installed)
        tree = Tree(self.system)
        with self.assertRaises(TreeError) as caught:
            await tree.write("handlers/broken/mgmt", "add_device x")
        self.assertEqual(
            str(caught.exception),
            "handlers: device handler broken cannot be used: no moon",
        )
        self.assertEqual(tree.list("handlers"), ["theirs"])
        self.assertEqual(tree.read("broken_handlers"), "broken: no moon\n")
