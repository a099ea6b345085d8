# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.sense_mapping`: what a command ends with when its store raises, and
what is said of it, to whoever manages the target and in the log.
"""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import fail, succeed
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from scstd.filters.base import Filtered
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.scsi.sense_mapping import condition_of
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory


class Failing(Filtered):
    """
    A store whose reads and writes fail, at once or later.
    """

    error: Exception
    later = False

    def _fail(self) -> Any:
        if self.later:
            return fail(self.error)
        raise self.error

    def read(self, offset: int, length: int) -> Any:
        return self._fail()

    def write(self, offset: int, data: Any, fua: bool) -> Any:
        return self._fail()


class SenseMappingTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Serve a store that fails, and look at the log and at what is reported."""
        self.store = Failing(memory())
        _node, _target, (self.unit,) = serve(self.store)
        self.one = Initiator(_node).ready()
        self.reported: list[tuple[str, dict[str, Any]]] = []

        def report(event: str, /, **fields: Any) -> None:
            self.reported.append((event, fields))

        self.unit.report = report
        self.logged: list[Any] = []
        heard: Any = self.logged.append
        globalLogPublisher.addObserver(heard)
        self.addCleanup(globalLogPublisher.removeObserver, heard)

    def lines(self, level: LogLevel) -> list[str]:
        """Return what was logged at a level."""
        return [
            one["log_format"].format(**one)
            for one in self.logged
            if one["log_level"] is level and one.get("log_format")
        ]

    def both(self, error: Exception, cdb: bytes, **data: Any) -> list[CommandResult]:
        """Return how a command ends whose store fails at once, and later."""
        self.store.error = error
        found = []
        for later in (False, True):
            self.store.later = later
            found.append(self.one.do(cdb, **data))
        return found

    def test_medium_error(self) -> None:
        """An error of the medium is reported with all that is known of it."""
        error = OSError(errno.EIO, "Input/output error", "disk.img")
        for done in self.both(error, read10(7, 3), read=3 * 512):
            self.assertEqual((done.status, done.key, done.asc), (2, 3, 0x1100))
        expected = {
            "device": "disk0",
            "command": "READ(10)",
            "lba": 7,
            "blocks": 3,
            "error": "Input/output error: disk.img",
            "sense": "3/11/00",
            "initiator": INITIATOR,
            "target": TARGET,
            "lun": 0,
        }
        self.assertEqual(self.reported, [("IO_ERROR", expected)] * 2)

    def test_place(self) -> None:
        """Where the store knows it, the place is told: in the sense data, and reported."""
        error: Any = OSError(errno.EIO, "Input/output error")
        error.offset = 9 * 512
        for done in self.both(error, write10(7, 3), data=bytes(3 * 512)):
            self.assertEqual((done.key, done.asc), (3, 0x0C00))
            self.assertTrue(done.sense[0] & 0x80)
            self.assertEqual(int.from_bytes(done.sense[3:7], "big"), 9)
        self.assertEqual([one["lba"] for _event, one in self.reported], [9, 9])
        self.assertEqual(self.reported[0][1]["error"], "Input/output error")
        self.assertEqual(self.reported[0][1]["sense"], "3/0c/00")

    def test_without_words(self) -> None:
        """An error without words for its number is told as it is written."""
        self.both(OSError("the robot has dropped it"), read10(0, 1), read=512)
        self.assertEqual(self.reported[0][1]["error"], "the robot has dropped it")

    def test_busy(self) -> None:
        """A store that can do nothing now is BUSY: logged for who debugs, not reported."""
        error = OSError(errno.EAGAIN, "no thread")
        for done in self.both(error, read10(0, 1), read=512):
            self.assertEqual(done.status, 8)
        said = self.lines(LogLevel.debug)
        self.assertEqual(said, ["disk0: READ(10): busy: [Errno 11] no thread"] * 2)
        self.assertEqual(self.reported, [])

    def test_defect(self) -> None:
        """A defect of ours is logged with its traceback, and ends as HARDWARE ERROR."""
        self.unit.volume.store = self.store
        for done in self.both(ValueError("a defect"), read10(0, 1), read=512):
            self.assertEqual((done.key, done.asc), (4, 0x4400))
        said = self.lines(LogLevel.critical)
        self.assertEqual(said, ["disk0: READ(10) failed"] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)
        self.assertEqual(self.reported, [])

    def test_defect_seen_later(self) -> None:
        """A defect is logged with its own traceback when it is handled no more."""
        task: Any = SimpleNamespace(cdb=bytes(6), row=None)
        condition = condition_of(self.unit, ValueError("a defect"), task)
        self.assertEqual((condition.key, condition.asc), (4, 0x4400))
        old = Failure(ValueError("an old one"))
        condition_of(self.unit, KeyError("not this"), task, old)
        self.assertEqual(self.lines(LogLevel.critical), ["disk0: ? failed"] * 2)
        seen = [str(one.value) for one in self.flushLoggedErrors(ValueError)]
        self.assertEqual(seen, ["a defect", "an old one"])

    def test_fault_is_told_once(self) -> None:
        """A store that breaks its contract was logged where that was seen, not again."""

        def short(offset: int, length: int) -> Any:
            return succeed(b"short")

        self.patch(self.store, "read", short)
        done = self.one.do(read10(0, 1), read=512)
        self.assertEqual((done.key, done.asc), (4, 0x4400))
        self.assertEqual(self.lines(LogLevel.critical), [])
        self.assertEqual(len(self.lines(LogLevel.error)), 1)
