# SPDX-License-Identifier: MIT
"""
Self-tests of a logical unit (SPC-5 section 5.15, Self-test operations).

A test reads samples of the medium, evenly spread: a few in a short test, a thousand in
an extended one.  It changes nothing.  What fails is the store, and the result says at
which LBA.  The last twenty results are remembered, for the Self-Test Results log page.

In the foreground the command waits for the test; in the background commands go on, and
REQUEST SENSE says how far the test is.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.block.checked import StoreFault
from scstd.interfaces import Result
from scstd.results import settled
from scstd.scsi.allow import Allow
from scstd.scsi.asking import nobody
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, from_oserror

if TYPE_CHECKING:
    from scstd.scsi.unit import LogicalUnit

_log = Logger()

SAMPLES = {False: 16, True: 1024}
"""Reads of a short and of an extended test."""

SAMPLE = 4096
"""Bytes of each, or one block if that is more."""

EXTENDED_SECONDS = 60
"""How long an extended test may take, as mode and VPD pages say."""

KEPT = 20
"""Results that are kept (SPC-5, Self-Test Results log page)."""

PASSED, ABORTED, STOPPED, FAILED, RUNNING = 0x0, 0x1, 0x2, 0x7, 0xF
"""Self-test results: completed; aborted by SEND DIAGNOSTIC, or otherwise; failed; in
progress (SPC-5, Self-Test Results log page)."""


@attrs.define(eq=False)
class SelfTest:
    """
    One test, and its result.
    """

    code: int
    """The SELF-TEST CODE of SEND DIAGNOSTIC."""
    result: int = RUNNING
    hours: int = 0
    """Since the unit was opened."""
    lba: int = -1
    """Where it failed; -1: nowhere."""
    key: int = 0
    """What it failed with: sense key, and additional sense code."""
    asc: int = 0
    done: int = attrs.field(default=0, repr=False)
    """How far it is, as a progress indication."""
    error: CheckCondition | None = None
    """What failed."""

    def row(self) -> list[int]:
        """Return what is remembered."""
        return [self.code, self.result, self.hours, self.lba, self.key, self.asc]

    # As a condition of the unit (`scstd.scsi.conditions.Condition`).

    def check(self, task: Task, allow: Allow) -> None:
        """Let everything through."""

    def sense(self, itl: ITL) -> CheckCondition:
        """Say how far it is."""
        del itl
        return CheckCondition(
            SenseKey.NOT_READY, ASC.SELF_TEST_IN_PROGRESS, progress=self.done
        )


@attrs.define(eq=False)
class SelfTests:
    """
    The self-tests of one logical unit, newest first.
    """

    unit: LogicalUnit
    results: list[SelfTest] = attrs.field(factory=list)
    running: SelfTest | None = None
    _over: Deferred[None] | None = None

    def load(self, rows: list[list[int]]) -> None:
        """
        Take in what was remembered.
        """
        self.results = [
            SelfTest(code, result, hours, lba, key, asc)
            for code, result, hours, lba, key, asc in rows[:KEPT]
        ]

    def run(
        self, code: int, task: Task | None = None, *, extended: bool
    ) -> Deferred[SelfTest]:
        """
        Run a test; fire with it when it is over, whatever its result.  It ends early
        when *task* is aborted.  The default self-test (code 0) is not logged.
        """
        test = SelfTest(code)
        self.running = test
        if code:
            self.results = [test, *self.results[: KEPT - 1]]
        return Deferred.fromCoroutine(self._run(test, task, SAMPLES[extended]))

    def begin(self, code: int, *, extended: bool) -> None:
        """
        Run a test in the background.
        """
        self._over = Deferred()
        over = self._over
        test: Deferred[SelfTest] = nobody(partial(self.run, code, extended=extended))
        if self.running is not None:
            self.unit.impose(self.running)
        test.addBoth(lambda _test: over.callback(None))

    def abort(self, result: int) -> bool:
        """
        Abort the test that is running, if there is one, with this result; say whether
        there was.
        """
        if self.running is None:
            return False
        self.running.result = result
        return True

    def stop(self) -> Result[None]:
        """
        Abort the test that is running; done when it reads no more.
        """
        over = self._over
        if not self.abort(STOPPED) or over is None:
            return None
        return over

    async def _run(self, test: SelfTest, task: Task | None, samples: int) -> SelfTest:
        try:
            await self._sample(test, task, samples)
        finally:
            self.running = None
            self.unit.lift(test)
        if test.result == RUNNING:
            test.result = PASSED
        unit = self.unit
        if unit.steady is not None:
            test.hours = int(unit.steady() - unit.opened) // 3600
        if test.code:
            rows = [one.row() for one in self.results]
            try:
                await settled(unit.remember("self_tests", rows))
            except OSError as error:
                # It has its result nevertheless.
                unit.insist("self_tests", rows)
                _log.warn(
                    "{unit}: a self-test's result is not kept yet: {error}",
                    unit=unit.name,
                    error=error,
                )
        return test

    async def _sample(self, test: SelfTest, task: Task | None, samples: int) -> None:
        unit = self.unit
        if unit.stopped or not unit.blocks:
            return  # There is no medium to be tested.
        blocks = max(1, SAMPLE >> unit.block_shift)
        last = max(0, unit.blocks - blocks)
        wanted = sorted({last * one // (samples - 1) for one in range(samples)})
        for number, lba in enumerate(wanted):
            if (task is not None and task.aborted) or unit.stopped:
                test.result = STOPPED
            if test.result != RUNNING:
                return
            test.done = 0x10000 * number // len(wanted)
            length = min(blocks, unit.blocks - lba) << unit.block_shift
            try:
                read = unit.store.read(lba << unit.block_shift, length)
                if isinstance(read, Deferred):
                    await read
            except OSError as error:
                test.error = from_oserror(error, writing=False, lba=lba)
            except StoreFault:
                # It is in the log.
                test.error = CheckCondition(
                    SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE
                )
            except Exception:  # noqa: BLE001 - whatever it is, the store is broken
                _log.failure("{unit}: the self-test failed", unit=unit.name)
                test.error = CheckCondition(
                    SenseKey.HARDWARE_ERROR, ASC.INTERNAL_TARGET_FAILURE
                )
            if test.error is not None:
                test.result, test.lba = FAILED, lba
                test.key, test.asc = test.error.key, test.error.asc
