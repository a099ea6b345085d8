# SPDX-License-Identifier: MIT
"""
initiators.allow and initiators.deny: which addresses may see targets, as in SCST.

A line names a target, or ALL, and then addresses with or without a mask, or ALL::

    iqn.2026-11.org.example:disk  192.0.2.0/24, [2001:db8::]/32
    ALL                           ALL

Only the first line of a file that names the target or ALL counts.  Who is denied and
not allowed is refused.

What keeps people out must not let them in by a mistake.  A file that cannot be read, or
has a line that cannot be understood, does not count: what it said when it was right
does, and if it never was, initiators.deny denies all, and initiators.allow allows none.
A file that is not there says nothing.

The files are looked at for each login, by a thread: nobody knows what file system they
are on.  A login waits for that, but not for ever (`PATIENCE`): then what was known
before decides.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.blocking import Lane
from scstd.protocols.wire.names import MAX_NAME_LENGTH, folded
from scstd.textfile import read_text

_log = Logger()

PATIENCE = 2.0
"""Seconds that a login waits for the files."""

_LONGEST_FILE = 1 << 20
"""Bytes of a file."""

_ALL = "ALL"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Lines = list[tuple[str, list[Network | None]]]
"""Targets in their normal form, or ALL, and networks; None for ALL."""


class NotUnderstoodError(ValueError):
    """
    A line is none of these files'.
    """


def _network(word: str) -> Network | None:
    if word.upper() == _ALL:
        return None
    return ipaddress.ip_network(word.replace("[", "").replace("]", ""), strict=False)


def _parse(text: str) -> Lines:
    """
    Return what a file says.

    :raises NotUnderstoodError: a line makes no sense; it is named.
    """
    lines: Lines = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        name = words[0] if len(words[0]) <= MAX_NAME_LENGTH else ""
        known = name.upper() == _ALL or name[:4].lower() in {"iqn.", "eui.", "naa."}
        if not known or len(words) < 2:
            raise NotUnderstoodError(
                f"line {number}: expected a target or ALL, and addresses or ALL, found"
                f" {' '.join(words)[:80]!r}"
            )
        try:
            networks = [_network(word) for word in words[1:]]
        except ValueError as error:
            raise NotUnderstoodError(
                f"line {number}: expected addresses or ALL: {error}"
            ) from None
        lines.append((_ALL if name.upper() == _ALL else folded(name), networks))
    return lines


def within(address: str, pattern: str) -> bool:
    """
    Say whether an address is one of those that a word of the files means.
    """
    try:
        return _is_in(address, _network(pattern))
    except ValueError:
        return False


def _is_in(address: str, network: Network | None) -> bool:
    if network is None:
        return True
    try:
        host = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return host.version == network.version and host in network


_Stamp = tuple[int, ...] | None


@attrs.frozen
class _Look:
    """
    What was found: *lines* is None if they are those of before, or not known.
    """

    stamp: _Stamp
    lines: Lines | None = None
    wrong: str = ""


def _look(path: Path, before: _Stamp) -> _Look:
    """
    Look at a file, in a thread.
    """
    stamp: _Stamp = None
    try:
        found = os.stat(path)  # noqa: PTH116 - as cheap as it gets
        stamp = found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
        if stamp == before:
            return _Look(stamp)
        text = read_text(path, most=_LONGEST_FILE, escaped=True)
        return _Look(stamp, _parse(text))
    except FileNotFoundError:
        return _Look(None, [])
    except OSError as error:
        return _Look(None, wrong=error.strerror or str(error))
    except ValueError as error:
        return _Look(stamp, wrong=str(error))


@attrs.define(eq=False)
class _File:
    """
    One file: *lines* is what it said when it was right, None if that is not known;
    *wrong* is what is wrong with it now.
    """

    path: Path
    without: str
    """What holds when it was never right."""
    lines: Lines | None = None
    wrong: str = ""
    _stamp: _Stamp = None

    def look(self) -> Callable[[], _Look]:
        """
        Return what looks at the file.
        """
        path, stamp = self.path, self._stamp
        return lambda: _look(path, stamp)

    def take(self, found: _Look) -> None:
        """
        Take in what was found; say what is wrong once.
        """
        if found.lines is None and not found.wrong:
            return
        if found.lines is not None:
            self.lines = found.lines
        self._stamp = found.stamp
        if found.wrong and found.wrong != self.wrong:
            kept = self.without if self.lines is None else "what it said before counts"
            _log.error(
                "{path}: {wrong} ({kept})",
                path=str(self.path),
                wrong=found.wrong,
                kept=kept,
            )
        self.wrong = found.wrong


@attrs.define(eq=False)
class Hosts:
    """
    Both files; *call* makes a call in a thread.
    """

    reactor: Any
    allow: _File
    deny: _File
    call: Callable[[Callable[[], Any]], Deferred[Any]]
    _running: bool = False
    _late: bool = False
    _waiting: list[Callable[[], None]] = attrs.field(factory=list)

    @classmethod
    def of(cls, reactor: Any, allow: str, deny: str) -> Hosts:
        """
        Return the two files at these paths; without threads, as in tests, they are read
        at once.
        """
        threads = hasattr(reactor, "callFromThread")
        call = Lane(reactor, "hosts files").call if threads else maybeDeferred
        return cls(
            reactor,
            _File(Path(allow), "nobody is allowed"),
            _File(Path(deny), "everybody is denied"),
            call,
        )

    def refused(self, target: str, address: str) -> bool:
        """
        Say whether an initiator's address may not see a target.
        """
        if self.deny.lines is not None and not _named(self.deny.lines, target, address):
            return False
        return not _named(self.allow.lines or [], target, address)

    def refresh(self) -> None:
        """
        Look at the files though nobody waits: what is wrong is said.
        """
        if not self._running:
            self._run()

    def look(self, ready: Callable[[], None]) -> None:
        """
        Look at the files; call *ready* when that is done, or takes too long.
        """
        if self._late:
            # They do not answer: nobody waits until they have.
            ready()
            return
        once = _Once(ready)
        self._waiting.append(once.call)
        if not self._running:
            self._run()
        if not once.called:
            once.timer = self.reactor.callLater(PATIENCE, self._too_late, once)

    def _run(self) -> None:
        """
        Look once for everybody who waits; who comes meanwhile waits for the next look.
        """
        self._running = True
        waiting, self._waiting = self._waiting, []
        files = (self.allow, self.deny)
        looks = [one.look() for one in files]
        found = self.call(lambda: [look() for look in looks])
        found.addCallback(self._found, files)
        found.addErrback(self._failed)
        found.addBoth(lambda _: self._done(waiting))

    @staticmethod
    def _found(looks: list[_Look], files: tuple[_File, ...]) -> None:
        for file, look in zip(files, looks, strict=True):
            file.take(look)

    def _failed(self, failure: Failure) -> None:
        _log.error(
            "{allow} and {deny}: {why}",
            allow=str(self.allow.path),
            deny=str(self.deny.path),
            why=failure.getErrorMessage(),
        )

    def _done(self, waiting: list[Callable[[], None]]) -> None:
        self._running = False
        if self._late:
            self._late = False
            _log.info("{path}: it answers again", path=str(self.deny.path))
        if self._waiting:
            self._run()
        for ready in waiting:
            ready()

    def _too_late(self, once: _Once) -> None:
        once.timer = None
        if not self._late:
            self._late = True
            _log.error(
                "{allow} or {deny} does not answer: {what}",
                allow=str(self.allow.path),
                deny=str(self.deny.path),
                what=self.deny.without
                if self.deny.lines is None
                else "what was known before counts",
            )
        once.call()


@attrs.define(eq=False)
class _Once:
    """
    Who waits for a look, and is told once.
    """

    ready: Callable[[], None]
    timer: Any = None
    called: bool = False

    def call(self) -> None:
        """
        Tell.
        """
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if not self.called:
            self.called = True
            self.ready()


def _named(lines: Lines, target: str, address: str) -> bool:
    for name, networks in lines:
        if name in {_ALL, target}:
            return any(_is_in(address, one) for one in networks)
    return False
