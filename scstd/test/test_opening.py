# SPDX-License-Identifier: MIT
"""
Stores that do not open: nobody else waits for them.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.management import real_path as paths
from scstd.management.devices.opening import LITTLE_PATIENCE, PATIENCE, opening
from scstd.management.model.configuration import DeviceConfiguration, origin
from scstd.management.real_path import real_path
from scstd.test.stores import ManualStore


class Hanging:
    """
    A device handler that opens a store when the test says so.
    """

    name = "hanging"

    def __init__(self) -> None:
        self.opened: Deferred[Any] = Deferred()

    def open(self, *_args: Any) -> Deferred[Any]:
        """Open it later."""
        return self.opened


class LateTests(SynchronousTestCase):
    """
    What comes late, and too late.
    """

    def setUp(self) -> None:
        """Begin to open one."""
        self.clock = Clock()
        handler: Any = Hanging()
        self.handler = handler
        self.patch(paths, "_silent", {})
        self.opening = self.begin("/somewhere/a.img")

    def begin(self, filename: str) -> Deferred[Any]:
        """Begin to open a device."""
        device = DeviceConfiguration("d", self.handler, {"filename": filename})
        return Deferred.fromCoroutine(opening(self.clock, device))

    def test_late(self) -> None:
        """A store that takes its time is opened all the same."""
        self.clock.advance(PATIENCE - 1)
        self.assertNoResult(self.opening)
        self.handler.opened.callback(ManualStore())
        self.successResultOf(self.opening)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """One that takes too long is not, and is closed when it comes."""
        self.clock.advance(PATIENCE)
        error = self.failureResultOf(self.opening, ConfigurationError)
        self.assertIn("not open after 10 seconds", error.getErrorMessage())
        store = ManualStore()
        self.handler.opened.callback(store)
        self.assertTrue(store.closed)

    def test_more_of_them(self) -> None:
        """Of several that hang in one place the first alone is waited for so long."""
        self.clock.advance(PATIENCE)
        self.failureResultOf(self.opening, ConfigurationError)
        beside, elsewhere = map(self.begin, ("/somewhere/b.img", "/else/c.img"))
        self.clock.advance(LITTLE_PATIENCE)
        self.failureResultOf(beside, ConfigurationError)
        self.assertNoResult(elsewhere)
        self.clock.advance(PATIENCE)
        self.failureResultOf(elsewhere, ConfigurationError)

    def test_fails_too_late(self) -> None:
        """That it fails after that harms nobody."""
        self.clock.advance(PATIENCE)
        self.failureResultOf(self.opening, ConfigurationError)
        self.handler.opened.errback(OSError(5, "gone"))


class ResolvedTests(SynchronousTestCase):
    """
    Where a file is, if its file system says so.
    """

    def setUp(self) -> None:
        """Have it hang when told to; ask for a moment that is short."""
        self.hung = threading.Event()
        self.hung.set()
        self.asked = 0
        inner = os.path.realpath

        def realpath(path: str) -> str:
            self.asked += 1
            self.hung.wait(60)
            return inner(path)

        self.patch(os.path, "realpath", realpath)
        self.patch(paths, "_MOMENT", 60.0)
        self.patch(paths, "_silent", {})
        self.addCleanup(self.hung.set)
        self.link = self.mktemp()
        os.symlink("/elsewhere/disk.img", self.link)  # noqa: PTH211

    def test_answers(self) -> None:
        """Links are followed."""
        self.assertEqual(real_path(self.link), "/elsewhere/disk.img")
        self.assertEqual(origin("memory", self.link), "memory /elsewhere/disk.img")

    def test_hangs(self) -> None:
        """It is not waited for, and not asked again for a while."""
        self.patch(paths, "_MOMENT", 0.01)
        self.hung.clear()
        plain = os.path.abspath(self.link)  # noqa: PTH100
        self.assertEqual(real_path(self.link), plain)
        self.assertEqual(real_path(plain), plain)
        self.assertEqual(self.asked, 1)
