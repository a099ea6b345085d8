# SPDX-License-Identifier: MIT
"""
A target in a process of its own, for tests with real initiators.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

_TWISTD = "from twisted.scripts.twistd import run; run()"

PATIENCE = 120
"""
Seconds to wait for what has to come: so many that a machine that is busy with other
things is not taken for a fault.
"""


def free_port() -> int:
    """
    Return a port of the loopback that nobody has, nor gets before it is used: none of
    those that the kernel gives to who asks for any (ip(7), ip_local_port_range).
    """
    kept = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(kept.read_text(encoding="ascii").split()[0])
    while True:
        port = random.SystemRandom().randrange(10_000, max(first, 11_000))
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


class Server:
    """
    ``twistd scst-iscsi`` with some options, on a free port of the loopback; it is there
    when it has logged *luns* URLs, and *wait_for*.

    A context manager: inside, `urls` has the URL of each LUN; afterwards the process
    has ended, and a status that is not 0 is an error.

    It has so many *workers*; if nothing is said, as many as SCSTD_TEST_WORKERS says.
    Until it is there *heard* is called with each line of its log.
    """

    default_workers = int(os.environ.get("SCSTD_TEST_WORKERS", "0"))

    def __init__(
        self,
        *options: str,
        directory: str,
        luns: int = 1,
        listen: str = "127.0.0.1:0",
        wait_for: str = "://",
        environment: Mapping[str, str] | None = None,
        workers: int | None = None,
        heard: Callable[[str], object] | None = None,
    ) -> None:
        if workers is None:
            workers = self.default_workers
        self.workers = workers
        self.urls: list[str] = []
        self._expected = {0, -signal.SIGTERM}
        self.lines: list[str] = []
        its = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-X",
                "faulthandler",
                "-c",
                _TWISTD,
                "-n",
                "--pidfile=",
                "scst-iscsi",
                "--state-dir",
                os.path.join(directory, "state"),  # noqa: PTH118
                "--listen",
                listen,
                *(["--workers", str(workers)] if workers else []),
                *options,
            ],
            cwd=directory,
            env=its,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        assert self.process.stdout is not None
        waited = False
        for line in self.process.stdout:
            self.lines.append(line)
            if heard is not None:
                heard(line)
            match = re.search(r"iscsi(\+tls)?://\S+/\d+$", line)
            if match:
                self.urls.append(match[0])
            # What a command says may come before the log of what came before it.
            waited = waited or wait_for in line
            if len(self.urls) >= luns and waited:
                break
        else:
            timer.cancel()
            raise AssertionError("the target did not start:\n" + self.log())
        timer.cancel()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def log(self) -> str:
        """
        Return what it has logged last.
        """
        return "".join(self.lines[-100:])

    @property
    def url(self) -> str:
        """The URL of LUN 0."""
        return self.urls[0]

    @property
    def portal(self) -> str:
        """``host:port``."""
        return self.url.split("/")[2]

    def expect_kill(self) -> None:
        """
        Take an end by SIGKILL for a good one.
        """
        self._expected.add(-signal.SIGKILL)

    def stop(self) -> int:
        """
        Stop it as a service manager does; return its exit status.

        Not by SIGINT: what a shell starts in the background ignores that, and so do its
        children.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # Python says where each thread is.
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(PATIENCE)
            self._reader.join(PATIENCE)
            raise AssertionError("the target did not end:\n" + self.log()) from None
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def __enter__(self) -> Server:  # noqa: PYI034
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        status = self.stop()
        # twistd ends as the signal asks, after everything has stopped.
        if status not in self._expected and error is None:
            raise AssertionError(f"the target ended with {status}:\n" + self.log())
