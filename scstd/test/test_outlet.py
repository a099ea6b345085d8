# SPDX-License-Identifier: MIT
"""
A log that nobody reads holds nobody up.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from scstd.initiator.blocking import BlockingSession
from scstd.process import log_thread
from scstd.process.log_thread import MOST, LogOutlet
from scstd.test.serving import PATIENCE

LINE = "x" * 99 + "\n"

SERVE = (
    "from scstd.process import log_thread; log_thread.LAST = 0.2;"
    " from twisted.scripts.twistd import run; run()"
)


class OutletTests(TestCase):
    """
    A pipe, and who writes to it.
    """

    def setUp(self) -> None:
        """Make it."""
        reads, writes = os.pipe()
        self.reader = os.fdopen(reads, "r")
        self.addCleanup(self.reader.close)
        self.writer = os.fdopen(writes, "w")
        self.outlet = LogOutlet(self.writer)

    async def closed(self) -> str:
        """Write no more; return everything that was written."""
        self.outlet.call(self.writer.close)
        return await deferToThread(self.reader.read)

    async def test_order(self) -> None:
        """Lines come as they were written, and calls between them."""
        self.outlet.write("a\n")
        self.outlet.call(lambda: self.writer.write("b\n"))
        self.outlet.write("")
        self.outlet.write("c\n")
        self.assertEqual(await self.closed(), "a\nb\nc\n")

    async def test_not_read(self) -> None:
        """A pipe that is not read delays nobody; what was left out is counted."""
        lines = 3 * MOST // len(LINE)
        for _line in range(lines):
            self.outlet.write(LINE)
        self.assertFalse(self.outlet.drain(0))
        read = deferToThread(self.reader.read, lines * len(LINE) // 10)
        first = await read
        self.assertEqual(set(first), set(LINE))
        whole = len(first)
        rest = deferToThread(self.reader.read)
        self.assertTrue(await deferToThread(self.outlet.drain, 60))
        self.outlet.write("the end\n")
        self.outlet.call(self.writer.close)
        said = (first + await rest).splitlines()
        told = [line for line in said if line.startswith("(")]
        kept = said.count(LINE[:-1])
        left_out = sum(int(line[1:].split()[0]) for line in told)
        self.assertEqual(said[-1], "the end")
        self.assertEqual(len(said), kept + len(told) + 1)
        self.assertEqual((kept + left_out, left_out > 0), (lines, True))
        self.assertGreater(kept * len(LINE), whole)

    async def test_no_thread(self) -> None:
        """Without a thread it is written at once."""

        def start(_thread: Any) -> None:
            raise RuntimeError("can't start new thread")

        with self.patched(start):
            self.outlet.write("a\n")
        self.assertEqual(self.reader.readline(), "a\n")
        self.outlet.write("b\n")
        self.assertEqual(await self.closed(), "b\n")

    def patched(self, start: Any) -> Any:
        """Return a context in which threads start so."""
        patcher = self.patch(threading.Thread, "start", start)

        class Patched:
            def __enter__(self) -> None:
                pass

            def __exit__(self, *_args: object) -> None:
                patcher.restore()

        return Patched()

    async def test_broken(self) -> None:
        """Where nobody can read any more, lines are dropped."""
        self.reader.close()
        for _line in range(3):
            self.outlet.write(LINE)
        self.assertTrue(await deferToThread(self.outlet.drain, 60))

    async def test_drain(self) -> None:
        """At the end everything is written, and then each line at once."""
        self.outlet.write("a\n")
        self.assertTrue(self.outlet.drain(60))
        self.outlet.write("b\n")
        self.assertFalse(self.outlet._waiting)
        self.assertEqual(await self.closed(), "a\nb\n")
        self.assertIn(self.outlet, log_thread._ALL)


FORK = """
import os, sys
from twisted.python.logfile import LogFile
from scstd.process import log_thread
log = log_thread.LogOutlet(LogFile.fromFullPath(sys.argv[1]))
for number in range(50):
    log.write(f"parent {number}\\n")
    child = os.fork()
    if not child:
        log.write(f"child {number}\\n")
        os._exit(0 if log_thread.drain(60) else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


def wait_for(true: Callable[[], bool]) -> None:
    """Look until something is so."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


class ForkTests(TestCase):
    """
    A process that becomes a daemon, as twistd does.
    """

    def test_fork(self) -> None:
        """The new process writes as the old one did."""
        path = Path(self.mktemp()).absolute()
        subprocess.run([sys.executable, "-c", FORK, path], check=True, timeout=100)
        lines = path.read_text().splitlines()
        wanted = [f"{who} {n}" for n in range(50) for who in ("parent", "child")]
        self.assertEqual(sorted(lines), sorted(wanted))

    def test_daemon(self) -> None:
        """A service in the background has its log where it was told."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        arguments = ["--pidfile=pid", "--logfile=log", "scst-iscsi"]
        served = [
            "--listen",
            "127.0.0.1:0",
            "--state-dir",
            "",
            "--device",
            "d=memory:size=1M",
        ]
        try:
            subprocess.run(
                [sys.executable, "-c", SERVE, *arguments, *served],
                cwd=directory,
                check=True,
                timeout=100,
            )
            wait_for(lambda: "iscsi://" in (directory / "log").read_text())
        finally:
            pid = int((directory / "pid").read_text())
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: "Server Shut Down" in (directory / "log").read_text())


class ServiceTests(TestCase):
    """
    A real service whose standard output is not read.
    """

    def test_held(self) -> None:
        """It serves all the same, and ends when it is told to."""
        directory = Path(self.mktemp())
        directory.mkdir()
        arguments = ["--device", "d0=memory:size=1M", "--log-level", "debug"]
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", SERVE, "-n", "--pidfile=", "scst-iscsi"),
                *("--listen", "127.0.0.1:0", "--state-dir", "state", *arguments),
            ],
            cwd=directory,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        urls = (line.split()[-1] for line in process.stdout if "iscsi://" in line)
        url = next(urls)
        # More than a pipe holds, and what Python reads ahead.
        for number in range(600):
            BlockingSession(url, number).close()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), -signal.SIGTERM)
