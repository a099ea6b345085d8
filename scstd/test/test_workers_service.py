# SPDX-License-Identifier: MIT
"""
Tests for the service with ``--workers``, with real processes and initiators.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.blocking import BlockingSession
from scstd.initiator.commands import write10
from scstd.test.serving import PATIENCE, Server

CONFIGURATION = """
HANDLER vdisk_fileio {
    DEVICE a {
        filename a.img
    }
    DEVICE b {
        filename b.img
    }
}
TARGET_DRIVER iscsi {
    enabled 1
    TARGET iqn.2000-01.test:a {
        LUN 0 a
        enabled 1
    }
    TARGET iqn.2000-01.test:b {
        LUN 0 b
        enabled 1
    }
}
"""


class ServiceTests(SynchronousTestCase):
    """Workers start, come back, and end with the service, or without it."""

    def setUp(self) -> None:
        """Have two disks and a configuration."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        for name in "ab":
            with (self.directory / f"{name}.img").open("wb") as file:
                file.truncate(1 << 20)
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the configuration."""
        text = f"{more}\n{CONFIGURATION}"
        (self.directory / "scst.conf").write_text(text, encoding="utf-8")

    def serve(
        self, *options: str, heard: Callable[[str], object] | None = None
    ) -> Server:
        """Serve it."""
        return Server(
            "--config",
            "scst.conf",
            *options,
            directory=str(self.directory),
            luns=2,
            wait_for="the control socket is",
            workers=0,
            heard=heard,
        )

    def wait(self, server: Server, for_what: Callable[[], bool]) -> None:
        """Wait for something that comes."""
        end = time.monotonic() + PATIENCE
        while not for_what():
            self.assertLess(time.monotonic(), end, server.log())
            time.sleep(0.02)

    @staticmethod
    def processes(server: Server) -> dict[int, int]:
        """Return the process of each worker that has said that it serves."""
        said = re.findall(r"worker (\d) serves, process (\d+)", server.log())
        return {int(number): int(pid) for number, pid in said}

    def session(self, server: Server, number: int) -> BlockingSession:
        """Log in to a target, as soon as that can be."""
        while True:
            try:
                made = BlockingSession(server.urls[number])
            except ConnectionError:
                # It is told to come again.
                time.sleep(0.05)
            else:
                self.addCleanup(made.close)
                return made

    def test_worker_killed(self) -> None:
        """Sessions of the other stay, and it comes back; all ends with the service."""
        with self.serve("--workers", "2") as server:
            stays, goes = self.session(server, 0), self.session(server, 1)
            stays.command(write10(0, 1), data=b"s" * 512)
            goes.command(write10(0, 1), data=b"g" * 512)
            before = self.processes(server)
            self.assertEqual({0, 1}, before.keys())
            os.kill(before[1], signal.SIGKILL)
            # What a person tells everybody it leaves to the front.
            os.kill(before[0], signal.SIGTERM)
            self.assertRaises(ConnectionError, goes.read, 0, 1)
            self.wait(server, lambda: self.processes(server)[1] != before[1])
            again = self.session(server, 1)
            self.assertEqual(b"g" * 512, again.read(0, 1))
            self.assertEqual(b"s" * 512, stays.read(0, 1))
            self.assertEqual(before[0], self.processes(server)[0])
            self.configure("workers 3")
            server.process.send_signal(signal.SIGHUP)
            self.wait(server, lambda: "workers 3: so many" in server.log())
            pids = [*before.values(), *self.processes(server).values()]
        log = server.log()
        over = log.index("iqn.2000-01.test:b, session 1 from")
        self.assertIn(": its worker has ended (-", log[over:].split("\n")[0])
        self.assertLess(over, log.index("ended by SIGKILL"))
        for pid in pids:
            self.assertFalse(Path(f"/proc/{pid}").exists(), server.log())

    def test_front_killed(self) -> None:
        """Workers without a front end by themselves, and what they have is there."""
        self.configure("workers 2")
        with self.serve() as server:
            server.expect_kill()
            pids = self.processes(server).values()
            self.session(server, 0).command(write10(0, 1), data=b"x" * 512)
            server.process.kill()
            server.process.wait()
            self.wait(
                server, lambda: not any(Path(f"/proc/{one}").exists() for one in pids)
            )
        self.assertEqual(
            b"x" * 512, (self.directory / "a.img").read_bytes()[:512], server.log()
        )

    def test_started_at_once(self) -> None:
        """Who starts before workers have closed everything waits for that."""
        waits = "workers of a process that is gone have not closed"
        with self.serve("--workers", "2") as server:
            server.expect_kill()
            serial = self.serial(server)
            pids = [*self.processes(server).values()]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
                self.addCleanup(self.go_on, pid)
            server.process.kill()
            server.process.wait()
            told: list[str] = []

            def heard(line: str) -> None:
                if waits in line:
                    told.append(line)
                    for pid in pids:
                        self.go_on(pid)

            with self.serve(heard=heard) as alone:
                self.assertEqual(serial, self.serial(alone))
                self.assertEqual(1, len(told))
                self.assertEqual([], [*(self.directory / "state/fronts").iterdir()])

    @staticmethod
    def go_on(pid: int) -> None:
        """Have a process go on, if it is there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def serial(self, server: Server) -> bytes:
        """Return the serial number of the first disk."""
        session = self.session(server, 0)
        return session.command(bytes((0x12, 1, 0x80, 0, 255, 0)), read=255)

    def test_cannot_open(self) -> None:
        """What one worker cannot open is said in a line, and nothing is left."""
        (self.directory / "b.img").unlink()
        error = self.assertRaises(AssertionError, self.serve, "--workers", "2")
        self.assertIn("device b: b.img does not exist", str(error))

    def test_nothing_without(self) -> None:
        """A service without workers knows nothing of them."""
        program = (
            "import sys, scstd.tap, scstd.protocols.driver;"
            "print([one for one in sys.modules if one.startswith('scstd.workers')])"
        )
        said = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True
        )
        self.assertEqual("[]", said.stdout.strip())
