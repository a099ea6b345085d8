# SPDX-License-Identifier: MIT
"""
Every stop ends, whatever a store does, and whatever else is under way; and what is
removed while everything goes on is not waited for for ever either.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from pathlib import Path

from twisted.trial.unittest import TestCase

from scstd.test.hanging import install
from scstd.test.plain import PlainSession
from scstd.test.serving import PATIENCE, Server

BOUND = 60
"""Seconds in which a stop of 15 ends on a machine that is busy."""


class StopTests(TestCase):
    """
    A service with a store that does not end what it does.
    """

    timeout = 300

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def serve(self, *options: str, luns: int = 1, wait_for: str = "://") -> Server:
        """Start the service with a handler that hangs."""
        environment = install(self.directory)
        directory = str(self.directory)
        server = Server(
            *options,
            directory=directory,
            luns=luns,
            wait_for=wait_for,
            environment=environment,
        )
        self.addCleanup(server.process.wait, PATIENCE)
        self.addCleanup(server.process.kill)
        return server

    def logged(self, server: Server, word: str) -> None:
        """Wait until the log has a word."""
        until = time.monotonic() + PATIENCE
        while word not in server.log():
            self.assertLess(time.monotonic(), until, server.log())
            threading.Event().wait(0.01)

    def ended(self, server: Server, *signals: int) -> str:
        """Stop it, as soon as each signal is heard of; return its log."""
        began = time.monotonic()
        for at, number in enumerate(signals):
            server.process.send_signal(number)
            if not at:
                self.logged(server, "shutting down")
        self.assertEqual(server.process.wait(BOUND), -signal.SIGTERM)
        self.took = time.monotonic() - began
        server.stop()
        return server.log()

    def test_read(self) -> None:
        """
        A command that never ends is abandoned after 15 seconds and named; the others'
        devices are flushed.
        """
        server = self.serve(
            "--device", "bad=hanging:hang=read", "--device", "good=hanging", luns=2
        )
        session = PlainSession(server.url, 1)
        session.do(bytes(6))
        session.ask(0, 8)
        log = self.ended(server, signal.SIGTERM)
        self.assertGreater(self.took, 14)
        self.assertIn("commands are abandoned: device bad", log)
        self.assertIn("READ(10) LBA 0 blocks 8", log)
        # Both: of what hangs in one read the writes may be good.
        self.assertEqual(log.count("flushed"), 2)
        self.assertIn("Server Shut Down", log)
        session.close()

    def test_twice(self) -> None:
        """A second signal ends it at once, and what can be flushed is."""
        server = self.serve(
            "--device", "bad=hanging:hang=read", "--device", "good=hanging", luns=2
        )
        session = PlainSession(server.url, 1)
        session.do(bytes(6))
        session.ask(0, 8)
        log = self.ended(server, signal.SIGTERM, signal.SIGTERM)
        self.assertIn("told to stop again", log)
        self.assertEqual(log.count("flushed"), 2)
        self.assertNotIn("Traceback", log)
        session.close()

    def test_close(self) -> None:
        """A flush and a close that never end hold up no other device, nor the stop."""
        server = self.serve(
            "--device",
            "one=hanging:hang=flush",
            "--device",
            "two=hanging:hang=close",
            "--device",
            "good=hanging",
            luns=3,
        )
        log = self.ended(server, signal.SIGTERM, signal.SIGTERM)
        self.assertIn("not waited for any more: device", log)
        self.assertEqual(log.count("flushed"), 2)

    def test_thread(self) -> None:
        """Threads that Python would wait for are not."""
        server = self.serve("--device", "bad=hanging:hang=thread")
        session = PlainSession(server.url, 1)
        session.do(bytes(6))
        session.ask(0, 8)
        session.receive()
        self.ended(server, signal.SIGTERM)
        session.close()

    def test_starting(self) -> None:
        """A start that hangs ends by the signal, too."""
        server = self.serve(
            "--device",
            "good=memory:size=1M",
            "--device",
            "d=hanging:hang=open",
            luns=0,
            wait_for="device good",
        )
        log = self.ended(server, signal.SIGTERM)
        self.assertIn("not waited for any more: the start under way", log)

    def test_reactor(self) -> None:
        """A store that blocks the reactor is named, with the line where it does."""
        server = self.serve("--device", "bad=hanging:hang=reactor")
        session = PlainSession(server.url, 1)
        session.do(bytes(6))
        session.ask(0, 8)
        session.receive()
        session.close()
        self.logged(server, "turns again")
        self.assertIn("in scstd.test.hanging.read:", server.log())
        self.ended(server, signal.SIGTERM)

    def test_command(self) -> None:
        """With a command of --run that ignores signals its end is ours, all the same."""
        server = self.serve(
            "--device",
            "d=hanging:hang=flush",
            "--run",
            "trap '' TERM; echo $$ >pid; echo ready; while :; do sleep 1; done",
            wait_for="ready",
        )
        pid = int((self.directory / "pid").read_text(encoding="ascii"))
        server.process.terminate()
        self.logged(server, "shutting down")
        server.process.terminate()
        server.process.wait(BOUND)
        server.stop()
        with contextlib.suppress(FileNotFoundError):
            # Whoever is to take its status in may take its time.
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
            self.assertEqual(stat.rpartition(")")[2][1], "Z")
