# SPDX-License-Identifier: MIT
"""
One worker process, as the front sees it: started, linked, read, and over.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall

from scstd.process.child import Child
from scstd.workers.link import Link, attach
from scstd.workers.output import Output
from scstd.workers.worker import HELD, LINK, LONGEST

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv.pop().split('\\n');"
    " from scstd.workers.worker import main; main()"
)
"""
Not ``-m``, which would look into the working directory first, and not PYTHONPATH, which
a worker's children would have as well.
"""

_OURS = {
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
}
"""Variables that the service manager has meant for the front."""

_REST = 1.0
"""Seconds for what a process has written to come after its end."""

_LOOK = 0.25


class WorkerProcess:
    """
    Worker *number*, started when this is made; it may call *answers* (`Link`).  It has
    the open file *held*, and does nothing with it.

    *over* fires when there is no such process any more, with why.

    :raises OSError: it cannot be started.
    """

    def __init__(
        self,
        reactor: Any,
        number: int,
        answers: Mapping[str, Callable[..., Any]],
        held: int | None = None,
    ) -> None:
        self._reactor = reactor
        self._status = 0
        self._late: Any = None
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self.over: Deferred[str] = Deferred()
        self.link = Link(answers, self._link_gone)
        self._output = Output(number, self._output_over)
        self._child = Child(reactor)
        link, theirs = socket.socketpair()
        output, their_output = socket.socketpair()
        with link, theirs, output, their_output, open(os.devnull, "rb") as nothing:  # noqa: PTH123
            self._child.spawn(
                sys.executable,
                _arguments(number),
                {name: os.environ[name] for name in os.environ if name not in _OURS},
                {
                    0: nothing.fileno(),
                    1: their_output.fileno(),
                    2: their_output.fileno(),
                    LINK: theirs.fileno(),
                    **({} if held is None else {HELD: held}),
                },
                (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
            )
            attach(reactor, link, self.link)
            output.setblocking(False)
            reactor.adoptStreamConnection(
                output.fileno(), socket.AF_UNIX, Factory.forProtocol(self._read)
            )
        self._child.ended.addCallback(self._ended)

    def _read(self) -> Output:
        return self._output

    @property
    def pid(self) -> int:
        """Its number."""
        return self._child.pid

    def kill(self, number: int = signal.SIGKILL) -> None:
        """
        End it, and what it has started, at once.
        """
        self._child.signal(number)

    def _link_gone(self, _why: str) -> None:
        if self._child.running:
            # It ends by itself, and SIGCHLD may be nobody's business here.
            self._late = self._reactor.callLater(LONGEST, self.kill)
            self._looking.start(_LOOK, now=False)

    def _look(self) -> None:
        self._child.reapProcess()

    def _ended(self, status: int) -> None:
        self._status = status
        if self._looking.running:
            self._looking.stop()
        if self._late is not None and self._late.active():
            self._late.cancel()
        # What is left of its group holds nothing of ours.
        self.kill()
        self.link.abort()
        # Somebody may have what it wrote to who has left the group.
        self._late = self._reactor.callLater(_REST, self._output_over)
        if not self._output.connected:
            self._output_over()

    def _output_over(self) -> None:
        if self._child.running or self.over.called:
            return
        if self._late is not None and self._late.active():
            self._late.cancel()
        if self._output.transport is not None:
            self._output.transport.loseConnection()
        self.over.callback(_reason(self._status, self._output.last))


def _arguments(number: int) -> list[str]:
    """
    Return the command line of a worker: the same Python, looking for modules in the
    same places.
    """
    flags: Any = subprocess
    return [
        sys.executable,
        *flags._args_from_interpreter_flags(),  # noqa: SLF001 - multiprocessing's, too
        "-c",
        _PROGRAM,
        str(number),
        "\n".join(sys.path),
    ]


def _reason(status: int, last: str) -> str:
    if status <= 128:
        return f"it ended with status {status}{f': {last}' if last else ''}"
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        name = f"signal {status - 128}"
    return f"it was ended by {name}{f': {last}' if last else ''}"
