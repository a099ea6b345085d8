# SPDX-License-Identifier: MIT
"""
Telling the service manager how things are: the protocol of sd_notify(3).

One datagram of ``NAME=value`` lines to the Unix socket that ``NOTIFY_SOCKET`` names; a
first letter ``@`` means an abstract one.  Without that variable everything here does
nothing.  The ten lines are ours: there is nothing in them that a library would add.

A service manager that asks for it (``WATCHDOG_USEC``) is told twice in its interval
that the reactor still turns: what blocks it for longer gets the service started again.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import MutableMapping
from typing import Any

import attrs
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger()

_LONGEST = 900
"""Characters of a status; systemd drops a datagram of more than 4096 bytes."""

_SHORTEST = 0.01
"""Seconds between two words to the watchdog: less would leave time for nothing else."""


@attrs.define(eq=False)
class Notifier:
    """
    The service manager, if there is one: *address* is its socket, *interval* how often
    in seconds it wants to hear of us, 0 for never.
    """

    address: str = ""
    interval: float = 0.0
    _beat: LoopingCall | None = None

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Notifier:
        """
        Return who is told, and take the variables out of the environment: they are not
        for our children.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        interval = environment.pop("WATCHDOG_USEC", "")
        for_whom = environment.pop("WATCHDOG_PID", "")
        asked = re.fullmatch("0*[1-9][0-9]{0,14}", interval) and (
            for_whom in {"", str(os.getpid())}
        )
        return cls(address, max(int(interval) / 2e6, _SHORTEST) if asked else 0.0)

    def tell(self, *lines: str) -> None:
        """
        Send some lines; a service manager that cannot be reached is no reason to stop.
        """
        if not self.address:
            return
        name = self.address
        if name.startswith("@"):
            name = "\0" + name[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.sendto("\n".join(lines).encode(errors="replace"), name)
        except OSError as error:
            _log.warn("the service manager was not told: {error}", error=error)

    def ready(self, status: str) -> None:
        """Say that we serve."""
        self.tell("READY=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say in words how things are."""
        self.tell(f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` says the end."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading")

    def stopping(self, status: str) -> None:
        """Say that we are about to end, and in words what we still do, or why."""
        if self._beat is not None and self._beat.running:
            self._beat.stop()
        self.tell("STOPPING=1", f"STATUS={_line(status)}")

    def watch(self, reactor: Any) -> None:
        """
        Say regularly that the reactor turns, if that is asked for.
        """
        if self.address and self.interval > 0:
            self._beat = LoopingCall(self.tell, "WATCHDOG=1")
            self._beat.clock = reactor
            self._beat.start(self.interval)


def _line(text: str) -> str:
    line = "; ".join(" ".join(one.split()) for one in text.splitlines() if one.strip())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
