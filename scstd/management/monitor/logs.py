# SPDX-License-Identifier: MIT
"""
The log: how a line looks, and which lines there are.

What a person reads has the time to the millisecond, the module that speaks, and a
sentence; bytes that are no text, which a peer may have said, are escaped in it, so that
nobody writes lines of others or works a terminal.  What Twisted says of every port that
opens and closes is left out: our own lines say it better.

Levels are per namespace and can be changed at any time (`Levels`): a namespace is the
module that speaks, or, where people look for lines, a name that stays when files move
(``scstd.events``), and has what is said of the longest beginning of its name.  Lines
are text as Twisted writes it, or JSON objects, one a line; a process whose output goes
to the journal (JOURNAL_STREAM, as systemd sets it) leaves the time to it, and begins
each line with its priority instead (sd-daemon(3)).
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import attrs
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevelFilterPredicate,
    PredicateResult,
    eventAsText,
    formatEvent,
    formatTime,
)
from twisted.python.logfile import LogFile
from zope.interface import directlyProvides, provider

from scstd.management.model.value_kinds import LEVELS
from scstd.printable import printable, printable_lines
from scstd.process.log_thread import LogOutlet

FORMATS = ("text", "json")

_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}


_QUIET = {"twisted.protocols.amp": "warn"}
"""What is quieter than the rest: two lines for each command of a tool tell nothing."""


@attrs.define(eq=False)
class Levels:
    """
    The levels now: those of the command line (*base*), and over them what the attribute
    ``log_levels`` says.
    """

    base: tuple[tuple[str, str], ...] = ()
    predicate: LogLevelFilterPredicate = attrs.field(factory=LogLevelFilterPredicate)

    def __attrs_post_init__(self) -> None:
        self.set(())

    def set(self, over: tuple[tuple[str, str], ...]) -> None:
        """
        Have other levels from now on.
        """
        self.predicate.clearLogLevels()
        for name, level in {**_QUIET, **dict(self.base), **dict(over)}.items():
            self.predicate.setLogLevelForNamespace(name, LEVELS[level])


class _Shown:
    """
    An exception in a line of the log: what it says may be of a peer.
    """

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        return printable(str(self._error))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._error, name)
        return printable(found) if isinstance(found, str) else found


def safe(event: LogEvent) -> LogEvent:
    """
    Return an event whose fields end no line: only what we say ourselves may have more
    than one.
    """
    found = dict(event)
    for name, value in event.items():
        if isinstance(value, str) and (name == "log_text" or name[:4] != "log_"):
            found[name] = printable(value)
        elif isinstance(value, BaseException):
            found[name] = _Shown(value)
    return found


def timestamp(event: LogEvent) -> str:
    """
    Return when an event was, to the millisecond: ISO 8601, as this machine has it.
    """
    when = event.get("log_time")
    if when is None:
        return "-"
    # To the next lower one, so that no second has a thousand and first.
    whole = int(when * 1000)
    second = formatTime(whole // 1000, "%Y-%m-%dT%H:%M:%S|%z")
    return second.replace("|", f".{whole % 1000:03d}")


def as_text(event: LogEvent) -> str:
    """
    Return an event for people.
    """
    text = eventAsText(safe(event), includeTimestamp=False, includeSystem=False)
    if not text:
        return ""
    level = event.get("log_level")
    level_name = level.name if level is not None else "info"
    name = event.get("log_system") or f"{event.get('log_namespace', '-')}#{level_name}"
    said = printable_lines(text.rstrip("\n")).replace("\n", "\n\t")
    return f"{timestamp(event)} [{printable(str(name))}] {said}\n"


_NOISE = re.compile(
    r"\w+ (?:\(TLS\) )?starting on \S+|(?:Stopping|Starting) factory .*"
    r"|\([A-Za-z ]*Port \S+ Closed\)"
)


@provider(ILogFilterPredicate)
def is_news(event: LogEvent) -> Any:
    """
    Say no to what Twisted itself tells of each port.
    """
    if event.get("log_namespace") not in {"log_legacy", "twisted.internet.protocol"}:
        return PredicateResult.maybe
    text = formatEvent(event)
    noise = _NOISE.fullmatch(text) is not None
    return PredicateResult.no if noise else PredicateResult.maybe


def _plain(value: Any) -> Any:
    plain = isinstance(value, (bool, int, float)) or value is None
    return value if plain else printable(str(value))


_FIELDS = (str, int, float, BaseException, type(None))


def as_json(event: LogEvent) -> str:
    """
    Return an event as a JSON object on a line of its own: *time*, *level*,
    *namespace*, *message*, the fields of the message, *traceback* if there is one.
    """
    level = event.get("log_level")
    found: dict[str, Any] = {
        "time": timestamp(event),
        "level": level.name if level is not None else "info",
        "namespace": event.get("log_namespace", ""),
        "message": printable_lines(formatEvent(safe(event))),
    }
    failure = event.get("log_failure")
    if failure is not None:
        found["traceback"] = printable_lines(failure.getTraceback())
    fields = {
        name: _plain(value)
        for name, value in event.items()
        if not name.startswith("log_") and isinstance(value, _FIELDS)
    }
    if fields and event.get("log_namespace", "").startswith("scstd"):
        found["fields"] = fields
    return json.dumps(found, ensure_ascii=False) + "\n"


def prioritized(event: LogEvent) -> str:
    """
    Return an event for the journal: each line begins with its priority.
    """
    text = eventAsText(safe(event), includeTimestamp=False, includeSystem=False)
    level = event.get("log_level")
    mark = f"<{_PRIORITIES.get(level.name if level is not None else 'info', 6)}>"
    name = event.get("log_namespace", "-")
    lines = printable_lines(text.rstrip("\n")).split("\n")
    return "".join(f"{mark}{name}: {line}\n" for line in lines)


def in_journal(file: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """
    Say whether what is written to *file* goes to the journal (systemd.exec(5),
    JOURNAL_STREAM).
    """
    wanted = environment.get("JOURNAL_STREAM", "")
    try:
        found = os.fstat(file.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return wanted == f"{found.st_dev}:{found.st_ino}"


def as_errors(
    text: str, file: TextIO, environment: Mapping[str, str] = os.environ
) -> str:
    """
    Return lines that are errors as they are written to *file* before there is a log.
    """
    mark = f"<{_PRIORITIES['error']}>" if in_journal(file, environment) else ""
    return "\n".join(f"{mark}{line}" for line in text.splitlines())


def observer(
    file: Any, form: str, levels: Levels, *, waits: bool = True
) -> ILogObserver:
    """
    Return what writes the events that *levels* let through to a file; unless it *waits*
    a thread does (`scstd.process.log_thread`).
    """
    shown = as_json if form == "json" else as_text
    if form != "json" and in_journal(file):
        shown = prioritized
    output: Any = file if waits else LogOutlet(file)
    inner = FileLogObserver(output, shown)
    return FilteringLogObserver(inner, [is_news, levels.predicate])


def twistd_observer(
    options: Mapping[str, Any], form: str, levels: Levels, output: TextIO | None = None
) -> ILogObserver | None:
    """
    Return what writes where twistd's own options say, and to *output* (standard output)
    if they say nothing and it is no daemon; None if they ask for something
    that is not ours (``--syslog``, ``--logger``).

    The file is opened with the first event: twistd begins with one.
    """
    if options.get("syslog") or options.get("logger"):
        return None
    name = options.get("logfile")
    if options.get("nodaemon") and name in {None, ""}:
        return observer(output or sys.stdout, form, levels, waits=False)
    if options.get("nodaemon") and name == "-":
        return observer(sys.stdout, form, levels, waits=False)
    if name == "-":
        # twistd says that this cannot be.
        return None
    made: list[Callable[[LogEvent], None]] = []

    def write(event: LogEvent) -> None:
        if not made:
            file = _rotating(name or "twistd.log")
            made.append(observer(file, form, levels))
        made[0](event)

    directlyProvides(write, ILogObserver)
    return write  # type: ignore[return-value]


def _rotating(name: str) -> LogOutlet:
    """
    Open a log file that SIGUSR1 rotates, as twistd does.
    """
    file = LogFile.fromFullPath(name)
    outlet = LogOutlet(file)
    if signal.getsignal(signal.SIGUSR1) in {None, signal.SIG_DFL}:

        def rotate(_signal: int, _frame: Any) -> None:
            from twisted.internet import reactor  # noqa: PLC0415 - it is there now

            reactor.callFromThread(  # type: ignore[attr-defined]
                outlet.call, file.rotate
            )

        signal.signal(signal.SIGUSR1, rotate)
    return outlet
