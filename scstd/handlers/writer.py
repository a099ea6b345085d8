# SPDX-License-Identifier: MIT
"""
Writes of a file, made by a thread many at a time.

A write may wait in the kernel for as long as its file system is frozen, hung or full
of dirty pages, so the reactor makes none, but where the file system is nothing but
memory.  What makes a thread dear is not the thread but waking it, and taking turns with
it: so it takes all that wait at once, and what is contiguous goes in one call.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from scstd.blocking import Lane
from scstd.handlers.openfile import size_of
from scstd.interfaces import Buffer, MediumError

_IOV_MAX = 512
"""Pieces in one `pwritev` (POSIX promises 16, Linux and the BSDs take 1024)."""

_Write = tuple[int, Buffer, "Deferred[None]"]
_Outcome = tuple["Deferred[None]", Failure | None]


def shorter(offset: int) -> MediumError:
    """
    Return the error that tells of a file that was cut off.
    """
    return MediumError(offset, errno.EIO, "the file has become shorter")


def check_end(fd: int, offset: int, length: int) -> None:
    """
    :raises MediumError: the file has become shorter: with a write behind its end it
        would be longer again, with zeros for what was lost.
    """
    size = size_of(fd)
    if size < offset + length:
        raise shorter(max(offset, size))


def write_all(fd: int, offset: int, data: Buffer) -> None:
    """
    Write all of *data*; this may wait.

    :raises MediumError: it cannot be.
    """
    view = memoryview(data)
    done = 0
    try:
        while done < len(view):
            done += os.pwrite(fd, view[done:], offset + done)
    except OSError as error:
        raise MediumError(offset + done, error.errno or errno.EIO) from error


class Writer:
    """
    Makes the writes of one open file by a lane's one thread, in order.

    What ends behind the end of a file (*is_file*) is refused; a device's own end is not
    looked for.
    """

    def __init__(self, lane: Lane, fd: int, *, is_file: bool) -> None:
        self._lane = lane
        self._fd = fd
        self._is_file = is_file
        self._waiting: deque[_Write] = deque()
        self._called = False

    def __call__(self, offset: int, data: Buffer) -> Deferred[None]:
        """
        Return a Deferred that fires when *data* is written.
        """
        written: Deferred[None] = Deferred()
        self._waiting.append((offset, data, written))
        if not self._called:
            self._called = True
            self._lane.call(self._work).addCallbacks(_tell, self._fail)
        return written

    def _fail(self, failure: Failure) -> None:
        """
        There is no thread to make writes.
        """
        self._called = False
        waiting, self._waiting = self._waiting, deque()
        for _offset, _data, written in waiting:
            written.errback(failure)

    # In the thread.

    def _work(self) -> list[_Outcome]:
        # Before looking: a write that comes now is found, or calls again.
        self._called = False
        waiting = self._waiting
        if not waiting:
            return []
        size = size_of(self._fd) if self._is_file else None
        outcomes: list[_Outcome] = []
        for run in _runs([waiting.popleft() for _write in range(len(waiting))]):
            self._write(run, size, outcomes)
        return outcomes

    def _write(
        self, run: list[_Write], size: int | None, outcomes: list[_Outcome]
    ) -> None:
        """
        Write what is contiguous at once; if that fails, each by itself, to see which.
        """
        offset = run[0][0]
        length = run[-1][0] + len(run[-1][1]) - offset
        if len(run) > 1 and (size is None or offset + length <= size):
            try:
                if os.pwritev(self._fd, [one[1] for one in run], offset) == length:
                    outcomes += [(one[2], None) for one in run]
                    return
            except Exception:  # noqa: BLE001, S110 - one of them: it will say so
                pass
        outcomes += [(one[2], self._each(one[0], one[1], size)) for one in run]

    def _each(self, offset: int, data: Buffer, size: int | None) -> Failure | None:
        try:
            if size is not None and offset + len(data) > size:
                raise shorter(max(offset, size))  # noqa: TRY301 - one outcome of two
            write_all(self._fd, offset, data)
        except Exception:  # noqa: BLE001 - whatever it is, it is this write's
            return Failure()
        return None


def _runs(writes: list[_Write]) -> Iterator[list[_Write]]:
    """
    Yield the writes in order, those together that are each where the last one ended.
    """
    run: list[_Write] = []
    end = -1
    for write in writes:
        if run and (write[0] != end or len(run) == _IOV_MAX):
            yield run
            run = []
        run.append(write)
        end = write[0] + len(write[1])
    if run:
        yield run


def _tell(outcomes: list[_Outcome]) -> Any:
    for written, outcome in outcomes:
        written.callback(outcome)
