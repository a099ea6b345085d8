# SPDX-License-Identifier: MIT
"""
What one device remembers, in its file in the state directory.

What could not be written may be on the disk nevertheless, for a call that fails has not
always done nothing.  It is taken back; until that is done `DeviceMemory` knows that the
two differ, and writes again.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.block.remembered import OF_MEDIUM
from scstd.blocking import Lane
from scstd.interfaces import Result
from scstd.management.state import backup
from scstd.management.state.durable import InDoubtError, path_of, replace_files
from scstd.management.state.record_file import RecordFile

_log = Logger()

CallLater = Callable[[float, Callable[[], None]], Any]
"""Has something called after so many seconds, as `IReactorTime.callLater` does."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before what could not be written is written again."""


def encoded(values: dict[str, Any]) -> bytes:
    """
    Return what a file of these values has in it.
    """
    return json.dumps(values, indent=1).encode() + b"\n"


@attrs.frozen(eq=False)
class _Update:
    """
    An entry to be replaced.  A *fact* has happened whether it can be kept or not; what
    is no fact is refused when it cannot be kept.
    """

    key: str
    value: Any
    kept: Deferred[None] = attrs.field(factory=Deferred)
    fact: bool = False


@attrs.define(eq=False)
class DeviceMemory:
    """
    What one device remembers (`scstd.block.persistence.Persistence`).

    Files are written by *lane*: an fsync would delay the reactor.  *values* are what is
    true; what is updated while they are written goes to the disk with the next write,
    together.  What cannot be written is not remembered.

    While the disk may have something else (*differs*: it could not be taken back, or a
    fact could not be written) they are written again, after longer and longer pauses
    that `retry_with` is given, until the two agree.
    """

    path: Path
    lane: Lane
    lock: int = -1
    values: dict[str, Any] = attrs.field(factory=dict)
    _copy: bytes = b""
    differs: bool = False
    record: bytes = b""
    """The record that is on the disk, or may be."""
    foreign: str = ""
    """Why what is remembered of the medium is none of the one that is in it now, where
    it could not be put aside: then nothing can be remembered of that one."""
    _updates: list[_Update] = attrs.field(factory=list)
    _facts: list[_Update] = attrs.field(factory=list)
    """Those that are among the values, but not on the disk."""
    _writing: bool = False
    _gathering: bool = False
    _settling: list[Deferred[None]] = attrs.field(factory=list)
    _finishing: Deferred[None] | None = None
    _failed: Failure | None = None
    _pause: float = FIRST_PAUSE
    _again: Any = None
    _clearing: Deferred[None] | None = None
    """Who waits for the record to be cleared, which could not be."""
    _call_later: CallLater | None = None
    _record: RecordFile = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._record = RecordFile(self.path.with_suffix(".record"))

    @property
    def durable(self) -> bool:
        """Whether the file is ours."""
        return self.lock >= 0

    def __str__(self) -> str:
        """Return the file's name."""
        return str(self.path)

    def load(self) -> dict[str, Any]:
        """Return what there is."""
        found = {**self.values, **self._updated(self._updates)}
        if self.foreign:
            found = {key: found[key] for key in found if key not in OF_MEDIUM}
        return found

    @staticmethod
    def _updated(updates: Iterable[_Update]) -> dict[str, Any]:
        return {one.key: one.value for one in updates}

    def update(self, key: str, value: Any) -> Result[None]:
        """Replace one entry, on the disk too if the file is ours."""
        return self._add(_Update(key, value))

    def insist(self, key: str, value: Any) -> Result[None]:
        """Replace one entry by a fact."""
        return self._add(_Update(key, value, fact=True))

    def _add(self, update: _Update) -> Result[None]:
        if self.foreign and update.key in OF_MEDIUM:
            return fail(self._not_here())
        if not self.durable:
            self.values[update.key] = update.value
            return None
        self._updates.append(update)
        if not (self._writing or self._gathering):
            self._write()
        return update.kept

    def gather(self) -> None:
        """
        Write what is updated from now on at once, when `settled` is called: a device
        that is opened for the first time has several things to say.
        """
        self._gathering = True

    def _write(self) -> None:
        updates = list(self._updates)
        values = {**self.values, **self._updated(updates)}
        data = encoded(values)
        copy = encoded(backup.copy_of(values))
        # The flag that there are reservations is there before they are, and goes after
        # them; of two files the one that says too much is never believed.
        files = [(self.path, data), (path_of(self.path), copy)]
        if copy == self._copy and not self.differs:
            files = files[:1]
        elif values.get(backup.GUARDED):
            files.reverse()
        self._writing = True
        self._stop_waiting()
        self.lane.call(replace_files, files).addBoth(
            self._written, updates, values, copy
        )

    def _written(
        self,
        result: Any,
        updates: Sequence[_Update],
        values: dict[str, Any],
        copy: bytes,
    ) -> None:
        self._writing = False
        del self._updates[: len(updates)]
        failure = result if isinstance(result, Failure) else None
        told: Sequence[_Update] = updates
        if failure is None:
            told = [*self._facts, *updates]
            self._facts = []
            self.values, self._copy = values, copy
            self._agree()
        else:
            told = [one for one in updates if not one.fact]
            self._take_in(failure, [one for one in updates if one.fact])
            if told:
                self._failed = self._failed or failure
        if self._updates:
            self._write()
        elif self._clearing is not None:
            self._retry_later()
        settling: list[Deferred[None]] = []
        if not self._writing:
            settling, self._settling = self._settling, settling
        _tell((one.kept for one in told), failure)
        if settling:
            # `settled` tells of all: nobody need look at each.
            for one in told:
                one.kept.addErrback(lambda _: None)
            failed, self._failed = self._failed, None
            _tell(settling, failed)
        self._tell_finishing()

    def _tell_finishing(self) -> None:
        if not self._writing and self._finishing is not None:
            finishing, self._finishing = self._finishing, None
            finishing.callback(None)

    # Memory and disk that may differ.

    def retry_with(self, call_later: CallLater) -> None:
        """
        Write again, from now on, what could not be written.
        """
        self._call_later = call_later
        if self.differs:
            self._retry_later()

    def _agree(self) -> None:
        self._pause = FIRST_PAUSE
        if self.differs:
            self.differs = False
            _log.info("{file}: written, at last", file=str(self.path))

    def _take_in(self, failure: Failure, facts: Sequence[_Update]) -> None:
        """
        Take in that a write has failed, which was to have these facts.
        """
        self.values = {**self.values, **self._updated(facts)}
        self._facts += facts
        if not (facts or self.differs or failure.check(InDoubtError)):
            return
        if not self.differs:
            self.differs = True
            _log.error(
                "{file} may have something else than what is so: {error}; it is written"
                " again until it has not",
                file=str(self.path),
                error=failure.value,
            )
        self._retry_later()

    def _retry_later(self) -> None:
        if self._call_later is None or self._again is not None:
            return
        self._again = self._call_later(self._pause, self._retry)

    def _retry(self) -> None:
        self._again = None
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if self._writing:
            return
        if self._clearing is not None:
            self._clear_again()
        else:
            self._write()

    def _stop_waiting(self) -> None:
        again, self._again = self._again, None
        if again is not None and again.active():
            again.cancel()

    # The record.

    def keep(self, record: bytes) -> Result[None]:
        """Replace the record, on the disk if the file is ours."""
        if self.foreign:
            return fail(self._not_here())
        if not self.durable:
            return None
        if self.differs:
            # It would be taken for one of the medium that the file names.
            return fail(
                OSError(errno.EIO, "the file cannot be written", str(self.path))
            )
        self.record = record
        kept: Deferred[None] = self.lane.call(self._record.replace, record)
        return kept

    def clear(self) -> Result[None]:
        """See that there is no record."""
        if self.foreign or not self.durable:
            return None
        return self.lane.call(self._record.clear).addCallback(self._no_record)

    def _no_record(self, _cleared: object) -> None:
        self.record = b""

    def clear_in_time(self) -> Result[None]:
        """Clear it as soon as that can be done."""
        if self.foreign or not self.durable:
            return None
        self._clearing = Deferred()
        self._retry_later()
        return self._clearing

    def hurry(self) -> None:
        """Try again at once, if nothing is tried now."""
        if self._again is not None:
            self._stop_waiting()
            self._retry()

    def _clear_again(self) -> None:
        """
        Try to clear the record, which could not be.
        """
        self._writing = True
        self.lane.call(self._record.clear).addCallback(self._no_record).addBoth(
            self._cleared
        )

    def _cleared(self, result: Any) -> None:
        self._writing = False
        if not isinstance(result, Failure):
            self._pause = FIRST_PAUSE
            clearing, self._clearing = self._clearing, None
            if clearing is not None:
                clearing.callback(None)
        if self._updates or self.differs:
            self._write()
        elif self._clearing is not None:
            self._retry_later()
        self._tell_finishing()

    def kept(self) -> bytes:
        """Return the record."""
        return b"" if self.foreign else self.record

    def _not_here(self) -> OSError:
        return OSError(errno.EBUSY, self.foreign, str(self.path))

    # The end.

    async def settled(self) -> None:
        """
        Wait until everything is on the disk that has to be.

        :raises OSError: it cannot be written.
        """
        self._gathering, self._failed = False, None
        if not self._updates:
            return
        end: Deferred[None] = Deferred()
        self._settling.append(end)
        if not self._writing:
            self._write()
        await end

    async def finish(self) -> None:
        """
        Let what is being written be written, and try once more to have disk and memory
        agree.
        """
        if self.durable and not self._writing:
            if self._clearing is not None:
                self._clear_again()
            elif self.differs or self._updates:
                self._write()
        while self._writing:
            self._finishing = Deferred()
            await self._finishing
        if self.differs:
            _log.error(
                "{file} may have something else than what was so at the end",
                file=str(self.path),
            )

    def close(self) -> None:
        """Unlock it."""
        self._stop_waiting()
        self._call_later = None
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1
        self._record.close()


def _tell(waiting: Iterable[Deferred[None]], failure: Failure | None) -> None:
    for one in waiting:
        if failure is None:
            one.callback(None)
        else:
            one.errback(failure)
