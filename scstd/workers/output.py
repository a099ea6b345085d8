# SPDX-License-Identifier: MIT
"""
What a worker writes, and what the front makes of it.

A worker's standard output is the front's to read.  Its log goes there, an event a line,
written by a thread as every log of ours (`scstd.process.log_thread`): so it is heard of
a reactor that stands still, and of a worker about to end.  What else comes there, a
traceback of Python itself or what a library prints, becomes lines of the front's log.
Each says which worker speaks, and has that in a field as well.
"""

from __future__ import annotations

import codecs
import json
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    PredicateResult,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import provider

from scstd.management.model.value_kinds import LEVELS
from scstd.management.monitor.logs import Levels, is_news, safe
from scstd.printable import printable_lines
from scstd.process.log_thread import LogOutlet

_MARK = "\x1e"
"""What a line begins with that is an event of the log (RFC 7464, RS)."""

_LONGEST = 1 << 16
"""Characters of a line that nobody ends."""

_PLAIN = (bool, int, float, str, type(None))


def as_line(event: LogEvent) -> str:
    """
    Return an event of a worker's log as it goes to the front.
    """
    text = formatEvent(safe(event))
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}\n{failure.getTraceback()}"
    fields = {
        name: value if isinstance(value, _PLAIN) else str(value)
        for name, value in event.items()
        if name[:4] != "log_" and isinstance(value, (*_PLAIN, BaseException))
    }
    level = event.get("log_level", LogLevel.info).name
    namespace = event.get("log_namespace", "-")
    said = (event.get("log_time"), level, namespace, text, fields)
    return f"{_MARK}{json.dumps(said)}\n"


@provider(ILogFilterPredicate)
def _of_interest(event: LogEvent) -> Any:
    """
    Say no to what a reactor says of itself: it is one of several.
    """
    its_own = event.get("log_namespace") == "twisted.internet.base"
    news = event.get("log_level", LogLevel.info) > LogLevel.info
    return PredicateResult.no if its_own and not news else PredicateResult.maybe


def to_front(file: Any, levels: Levels) -> ILogObserver:
    """
    Return what writes a worker's log.
    """
    outlet: Any = LogOutlet(file)
    inner = FileLogObserver(outlet, as_line)
    return FilteringLogObserver(inner, [is_news, _of_interest, levels.predicate])


class Output(Protocol):
    """
    Reads what worker *number* writes, and publishes it; *over* is called when it writes
    no more.

    *last* is the last line that is not of its log: of a traceback, what went wrong.
    """

    def __init__(
        self,
        number: int,
        over: Callable[[], None],
        publish: Callable[[LogEvent], None] = globalLogPublisher,
    ) -> None:
        self._number = number
        self._over = over
        self._publish = publish
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._rest = ""
        self.last = ""

    def dataReceived(self, data: bytes) -> None:
        """Take lines."""
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        if len(self._rest) > _LONGEST:
            lines.append(self._rest)
            self._rest = ""
        for line in lines:
            self._line(line)

    def connectionLost(self, _reason: Failure = connectionDone) -> None:
        """Take what is left."""
        self.connected = 0
        rest, self._rest = self._rest, ""
        self._line(rest)
        self._over()

    def _line(self, line: str) -> None:
        mark, ours, event = line.partition(_MARK)
        if ours and not mark:
            try:
                self._say(*json.loads(event))
            except (ValueError, KeyError, TypeError):
                line = event
            else:
                return
        if line.strip():
            self.last = line.strip()
            self._say(time.time(), "warn", __name__, line.rstrip(), {})

    def _say(
        self, when: float, level: str, namespace: str, text: str, fields: Any
    ) -> None:
        said = f"worker {self._number}: {printable_lines(text)}"
        self._publish(
            {
                **fields,
                "worker": self._number,
                "log_time": when,
                "log_level": LEVELS[level],
                "log_namespace": namespace,
                "log_format": said.replace("{", "{{").replace("}", "}}"),
            }
        )
