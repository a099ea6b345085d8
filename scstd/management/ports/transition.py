# SPDX-License-Identifier: MIT
"""
The program that is asked before SET TARGET PORT GROUPS changes an access state, and
that may refuse: SCST's ``scst_on_stpg``, without its daemon.

It is called once for each target group, with the device that the command came to, the
state before, the state that is wanted, the device group and the target group: as five
arguments, and as SCST_DEVICE_NAME, SCST_PREV_ALUA_STATE, SCST_ALUA_STATE,
SCST_DEVICE_GROUP and SCST_TARGET_GROUP.  With status 0 the change is made; with another
one, if a signal ends it, and if it takes too long, it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from scstd.scsi.alua import TransitionRefused

_log = Logger()

_PATH = "/bin:/usr/bin:/sbin:/usr/sbin"
_NAMES = (
    "SCST_DEVICE_NAME",
    "SCST_PREV_ALUA_STATE",
    "SCST_ALUA_STATE",
    "SCST_DEVICE_GROUP",
    "SCST_TARGET_GROUP",
)
_NOT_RUN = b"Upon execvpe"
"""What Twisted's child says on its standard error when there is no such program."""

_LAST_WORDS = 0.5
"""Seconds in which what it said before its end has to come."""

_MAX_SAID = 4096
"""Bytes of what it says that are kept for the log."""


class Run(ProcessProtocol):
    """
    The program at work; *over* fires with None, or with why it refused.
    """

    def __init__(self, reactor: Any) -> None:
        self.over: Deferred[str | None] = Deferred()
        self.said = b""
        self._reactor = reactor
        self._why: str | None = None
        self._hears: Any = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N802, N803
        """Keep the beginning of what it says."""
        del childFD
        self.said += data[: _MAX_SAID - len(self.said)]

    def processExited(self, reason: Any) -> None:  # noqa: N802 - Twisted's name
        """Note how it ended, and hear the rest of what it says."""
        error = reason.value
        if error.signal:
            self._why = f"signal {error.signal} ended it"
        elif error.exitCode:
            self._why = f"exit status {error.exitCode}"
        # What it has started may go on, and hold its output.
        self._hears = self._reactor.callLater(_LAST_WORDS, self._hang_up)

    def _hang_up(self) -> None:
        self.tell(self._why)
        if self.transport is not None:
            self.transport.loseConnection()

    def processEnded(self, reason: Any) -> None:
        """Tell how it ended."""
        del reason
        if self._hears is not None and self._hears.active():
            self._hears.cancel()
        self.tell(self._why)

    def tell(self, why: str | None) -> None:
        """Fire, once."""
        over, self.over = self.over, Deferred()
        if not over.called:
            over.callback(why)


@attrs.define(eq=False)
class Programs:
    """
    The programs of one device group that are at work.
    """

    reactor: Any
    path: str = ""
    timeout: float = 17.0
    _running: dict[Run, Any] = attrs.field(factory=dict)

    async def ask(self, arguments: Sequence[str]) -> None:
        """
        Ask the program, with its five arguments.

        :raises TransitionRefused: it has not ended with status 0 in time.
        """
        run = Run(self.reactor)
        over = run.over
        environment = dict(zip(_NAMES, arguments, strict=True)) | {"PATH": _PATH}
        try:
            process = self.reactor.spawnProcess(
                run, self.path, [self.path, *arguments], environment, path="/"
            )
        except OSError as error:
            raise self._refused(arguments, f"it cannot be run: {error}", b"") from error
        self._running[run] = process
        late = self.reactor.callLater(self.timeout, self._kill, run, "took too long")
        try:
            why = await over
        finally:
            del self._running[run]
            if late.active():
                late.cancel()
        if why is not None:
            if _NOT_RUN in run.said:
                # Twisted's child, of which nothing became.
                why, run.said = (
                    "it cannot be run",
                    run.said.strip().rpartition(b"\n")[2],
                )
            raise self._refused(arguments, why, run.said)

    def _kill(self, run: Run, why: str) -> None:
        process = self._running[run]
        # The status of one that has ended by now is on its way.
        with suppress(ProcessExitedAlready):
            process.signalProcess("KILL")
        run.tell(why)

    def stop(self) -> None:
        """
        Let nothing wait for a program any more.
        """
        for run in list(self._running):
            self._kill(run, "the device group goes")

    def _refused(
        self, arguments: Sequence[str], why: str, said: bytes
    ) -> TransitionRefused:
        device, before, state, group, target_group = arguments
        text = re.sub(r"[^ -~]+", " ", said.decode("ascii", "replace")).strip()
        _log.warn(
            "device group {group}: {path} refuses to have {target_group} {state}, not"
            " {before} (device {device}): {why}{said}",
            group=group,
            path=self.path,
            target_group=target_group,
            state=state,
            before=before,
            device=device,
            why=why,
            said=f": {text[:300]}" if text else "",
        )
        return TransitionRefused(f"{self.path}: {why}")
