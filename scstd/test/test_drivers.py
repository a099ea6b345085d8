# SPDX-License-Identifier: MIT
"""
Tests for the end of target drivers, some of which fail at it: none holds up another.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from scstd.management.ports import drivers as module
from scstd.management.ports.drivers import Drivers


class StopTests(SynchronousTestCase):
    """
    A driver that does not stop, between two that do.
    """

    def stop(self, broken: Callable[[], Any]) -> Deferred[None]:
        """Return the stop of them all; *stopped* are those that were told to."""
        self.stopped: list[str] = []

        def plugin(name: str) -> Any:
            def stop() -> Any:
                self.stopped.append(name)
                return broken() if name == "broken" else succeed(None)

            return SimpleNamespace(
                name=name,
                attributes=tuple,
                open=lambda _reactor, _settings: SimpleNamespace(stop=stop),
            )

        plugins = [plugin(name) for name in ("a", "broken", "z")]
        self.patch(module, "target_drivers", lambda: plugins)
        self.drivers = Drivers(None, lambda *_args, **_fields: None)
        self.drivers.load()
        for driver in self.drivers.values():
            driver.ports["tcp:1"] = object()
        return Deferred.fromCoroutine(self.drivers.stop())

    def listening(self) -> list[str]:
        """Return those that have ports still."""
        return [name for name, one in self.drivers.items() if one.ports]

    def test_fails(self) -> None:
        """One that raises, or fails later, is in the log, and all are stopped."""
        for broken in (lambda: 1 // 0, lambda: fail(ZeroDivisionError())):
            self.successResultOf(self.stop(broken))
            self.assertEqual(self.stopped, ["a", "broken", "z"])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual(self.listening(), [])

    def test_hangs(self) -> None:
        """One that hangs is waited for, when all the others have stopped."""
        hanging: Deferred[None] = Deferred()
        ended = self.stop(lambda: hanging)
        self.assertNoResult(ended)
        self.assertEqual(self.stopped, ["a", "broken", "z"])
        self.assertEqual(self.listening(), ["broken"])
        hanging.callback(None)
        self.successResultOf(ended)
        self.assertEqual(self.listening(), [])

    def test_once(self) -> None:
        """They are stopped once."""
        self.successResultOf(self.stop(lambda: None))
        self.successResultOf(Deferred.fromCoroutine(self.drivers.stop()))
        self.assertEqual(self.stopped, ["a", "broken", "z"])
