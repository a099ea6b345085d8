# SPDX-License-Identifier: MIT
"""
The command of ``--run``, and everything that it starts.

At the end the whole process group is told to go, and what has not gone after `GRACE`
seconds is killed.  The terminal's Ctrl-C reaches us alone, and we pass it on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

from twisted.logger import Logger

from scstd.process.child import Child

_log = Logger()

GRACE = 5.0
"""Seconds that processes have to end when they are told to."""


class RunCommand(Child):
    """
    A command under way.
    """

    def start(self, command: str, environment: Mapping[str, str]) -> None:
        """
        Run *command* by the shell, with these variables besides our own.

        :raises OSError: there is no shell.
        """
        sys.stdout.flush()
        shell = ["sh", "-c", command]
        self.spawn("/bin/sh", shell, {**os.environ, **environment})

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """
        Tell the command and all that it has started to end, by this signal; come back
        when nothing is left of it.
        """
        if not self.signal(number):
            return
        if number != signal.SIGTERM:
            # Processes in the background ignore SIGINT.
            await self.gone(GRACE, leader=True)
            self.signal(signal.SIGTERM)
        if not await self.gone(GRACE):
            _log.warn("the command of --run does not end: it is killed")
            self.kill()
            await self.gone(GRACE)
