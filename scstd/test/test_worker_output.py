# SPDX-License-Identifier: MIT
"""
Tests for `scstd.workers.output`.
"""

from __future__ import annotations

import io
from typing import Any

from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from scstd.management.monitor.logs import Levels, as_json, as_text
from scstd.workers.output import Output, as_line, to_front


class OutputTests(SynchronousTestCase):
    """What a worker writes comes out of the front's log."""

    def setUp(self) -> None:
        """Have somebody read."""
        self.events: list[LogEvent] = []
        self.over: list[bool] = []
        self.output = Output(3, lambda: self.over.append(True), self.events.append)

    def come(self, form: str, **fields: Any) -> LogEvent:
        """Have a line of a worker's log come; return what the front logs."""
        taken: Any = self._take
        log = Logger("scstd.somewhere", observer=taken)
        log.emit(LogLevel.warn, form, **fields)
        (event,) = self.events
        return event

    def _take(self, event: LogEvent) -> None:
        self.sent = event
        self.output.dataReceived(as_line(event).encode())

    def test_event(self) -> None:
        """An event keeps its text, level, namespace, time and fields."""
        event = self.come("device {name}: {count} blocks", name="d", count=7)
        self.assertEqual("worker 3: device d: 7 blocks", formatEvent(event))
        self.assertEqual(self.sent["log_time"], event["log_time"])
        self.assertIs(LogLevel.warn, event["log_level"])
        self.assertEqual("scstd.somewhere", event["log_namespace"])
        self.assertEqual(("d", 7, 3), (event["name"], event["count"], event["worker"]))
        self.assertIn("[scstd.somewhere#warn] worker 3: device d: 7", as_text(event))
        self.assertIn('"worker": 3', as_json(event))

    def test_of_a_peer(self) -> None:
        """What somebody else has said ends no line, and is no form."""
        event = self.come("{name} came", name="a{b}\nc\x1b[0m")
        self.assertEqual("worker 3: a{b}\\nc\\x1b[0m came", formatEvent(event))

    def test_failure(self) -> None:
        """An exception comes with its traceback."""
        failure = Failure(ZeroDivisionError("by nothing"))
        event = self.come("failed", log_failure=failure)
        text = formatEvent(event)
        self.assertIn("failed\n", text)
        self.assertIn("by nothing", text)

    def test_error(self) -> None:
        """An exception in a field is its text."""
        event = self.come("{error}", error=OSError(28, "full"))
        self.assertEqual("worker 3: [Errno 28] full", formatEvent(event))

    def test_pieces(self) -> None:
        """Lines come in any pieces, letters too."""
        data = "Gruß\nzwei\nund".encode()
        for one in data:
            self.output.dataReceived(bytes((one,)))
        self.output.connectionLost()
        self.assertEqual(
            [f"worker 3: {one}" for one in ("Gruß", "zwei", "und")],
            [formatEvent(one) for one in self.events],
        )
        self.assertEqual([True], self.over)

    def test_anything(self) -> None:
        """What is not of the log is a warning; the last line of it is kept."""
        for line in (
            b"Traceback (most recent call last):\n",
            b"ImportError: no {module}\n",
            b"\n",
        ):
            self.output.dataReceived(line)
        self.assertEqual("ImportError: no {module}", self.output.last)
        self.assertEqual(
            [
                "worker 3: Traceback (most recent call last):",
                "worker 3: ImportError: no {module}",
            ],
            [formatEvent(one) for one in self.events],
        )

    def test_damaged(self) -> None:
        """What only looks like an event, and bytes that are no text, are shown."""
        for line in (
            b"\x1e{\n",
            b'\x1e[1, "no level", "n", "t", {}]\n',
            b'\x1e[1, "info", "n", "t", 5]\n',
            b"\x1e[]\n",
            b"\xff\xfe\n",
            b"before \x1e[1]\n",
        ):
            self.output.dataReceived(line)
        self.assertEqual(6, len(self.events))
        self.assertEqual("worker 3: \\xff\\xfe", formatEvent(self.events[4]))

    def test_long(self) -> None:
        """A line that nobody ends is not kept for ever."""
        for _time in range(40):
            self.output.dataReceived(b"x" * 8192)
        self.assertLess(3, len(self.events))

    def test_levels(self) -> None:
        """A worker writes what its levels let through, and nothing of its reactor's."""
        file = io.StringIO()
        levels = Levels()
        observer: Any = to_front(file, levels)
        for name in ("scstd.here", "twisted.internet.base"):
            Logger(name, observer=observer).info("said by {name}", name=name)
            Logger(name, observer=observer).debug("not said")
        levels.set((("scstd.here", "debug"),))
        Logger("scstd.here", observer=observer).debug("said after all")
        # The thread that writes it has written it by then.
        from scstd.process.log_thread import drain  # noqa: PLC0415

        self.assertTrue(drain())
        self.assertEqual(2, file.getvalue().count("\n"))
        self.assertIn("said after all", file.getvalue())
