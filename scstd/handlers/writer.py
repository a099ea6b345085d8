# SPDX-License-Identifier: MIT
"""
Writes of a file, made by a thread many at a time.

A write may wait in the kernel for as long as its file system is frozen, hung or full
of dirty pages, so the reactor makes none, but where the file system is nothing but
memory.  What makes a thread dear is not the thread but waking it, and taking turns with
it: so it takes all that wait at once, and what is contiguous goes in one call.

The kernel can make writes without a thread of ours (io_uring), and many in one call
(io_submit).  The first is a tenth faster, but a process whose write is held there by a
frozen file system does not end; the second gains nothing.

What is read of bytes that are being written is read by the same thread, in its turn: no
block is seen half written (`scstd.handlers.overlaps`).
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from scstd.blocking import Lane
from scstd.handlers.openfile import size_of
from scstd.handlers.overlaps import Ranges
from scstd.interfaces import Buffer, MediumError

_IOV_MAX = 512
"""Pieces in one `pwritev` (POSIX promises 16, Linux and the BSDs take 1024)."""

_MOST_LATE = 256
"""Writes since a read began that are looked at: after more it is made again."""

_Job = tuple[int, Any, "Deferred[Any]"]
"""An offset and data to write there, or how many bytes to read (a number)."""
_Outcome = tuple[_Job, Any]


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


def read_all(fd: int, offset: int, length: int) -> Buffer:
    """
    Return *length* bytes; this may wait.

    :raises MediumError: they are not all there.
    """
    data = _pread(fd, length, offset)
    if len(data) == length:
        return data
    pieces = [data]
    got = len(data)
    while got < length:
        data = _pread(fd, length - got, offset + got)
        if not data:
            raise shorter(offset + got)
        pieces.append(data)
        got += len(data)
    return b"".join(pieces)


def _pread(fd: int, length: int, offset: int) -> bytes:
    try:
        return os.pread(fd, length, offset)
    except OSError as error:
        # What comes before the first page that cannot be read was read before.
        raise MediumError(offset, error.errno or errno.EIO) from error


def write_all(fd: int, offset: int, data: Buffer) -> None:
    """
    Write all of *data*; this may wait.

    :raises MediumError: it cannot be.
    """
    done = 0
    try:
        done = os.pwrite(fd, data, offset)
        while done < len(data):
            done += os.pwrite(fd, memoryview(data)[done:], offset + done)
    except OSError as error:
        raise MediumError(offset + done, error.errno or errno.EIO) from error


class Writer:
    """
    Makes the writes of one open file by a lane's one thread, in order.

    What ends behind the end of a file (*is_file*) is refused; a device's own end is not
    looked for.  In *changing* is, until it is answered, what is written.
    """

    def __init__(self, lane: Lane, fd: int, changing: Ranges, *, is_file: bool) -> None:
        self._lane = lane
        self._fd = fd
        self._is_file = is_file
        self._changing = changing
        self._waiting: deque[_Job] = deque()
        self._called = False
        self._reads = 0
        self._count = 0
        self._late: deque[tuple[int, int]] = deque(maxlen=_MOST_LATE)

    def __call__(self, offset: int, data: Buffer) -> Deferred[None]:
        """
        Return a Deferred that fires when *data* is written.
        """
        self._changing.enter(offset, len(data))
        if self._reads:
            self._count += 1
            self._late.append((offset, offset + len(data)))
        return self._add(offset, data)

    def read(self, offset: int, length: int) -> Deferred[Buffer]:
        """
        Return a Deferred of what is there after the writes so far, and before others.
        """
        return self._add(offset, length)

    async def between(
        self, offset: int, length: int, read: Callable[[], Deferred[Buffer]]
    ) -> Buffer:
        """
        Return what *read* finds in another thread; if that is written to meanwhile,
        what is there between two writes.
        """
        if not self._changing.meets(offset, length):
            self._reads += 1
            before = self._count
            try:
                data = await read()
                if not self._touched(self._count - before, offset, length):
                    return data
            finally:
                self._reads -= 1
        return await self.read(offset, length)

    def _touched(self, writes: int, offset: int, length: int) -> bool:
        """
        Say whether one of the last writes was to these bytes.
        """
        if not writes:
            return False
        if writes > len(self._late):
            return True
        late = islice(reversed(self._late), writes)
        return any(first < offset + length and offset < end for first, end in late)

    def _add(self, offset: int, what: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._waiting.append((offset, what, done))
        if not self._called:
            self._called = True
            self._lane.call(self._work).addCallbacks(self._tell, self._fail)
        return done

    def _tell(self, outcomes: list[_Outcome]) -> None:
        leave = self._changing.leave
        for (offset, what, done), outcome in outcomes:
            if type(what) is not int:
                leave(offset, len(what))
            done.callback(outcome)

    def _fail(self, failure: Failure) -> None:
        """
        There is no thread to make writes.
        """
        self._called = False
        waiting, self._waiting = self._waiting, deque()
        self._tell([(job, failure) for job in waiting])

    # In the thread.

    def _work(self) -> list[_Outcome]:
        # Before looking: a write that comes now is found, or calls again.
        self._called = False
        waiting = self._waiting
        if not waiting:
            return []
        size = size_of(self._fd) if self._is_file else None
        outcomes: list[_Outcome] = []
        for run in _runs([waiting.popleft() for _job in range(len(waiting))]):
            job = run[0]
            if type(job[1]) is int:
                outcomes.append((job, self._read(job)))
            elif len(run) == 1:
                outcomes.append((job, self._each(job[0], job[1], size)))
            else:
                self._write(run, size, outcomes)
        return outcomes

    def _read(self, job: _Job) -> Any:
        try:
            return read_all(self._fd, job[0], job[1])
        except Exception:  # noqa: BLE001 - whatever it is, it is this read's
            return Failure()

    def _write(
        self, run: list[_Job], size: int | None, outcomes: list[_Outcome]
    ) -> None:
        """
        Write what is contiguous at once; if that fails, each by itself, to see which.
        """
        offset = run[0][0]
        length = run[-1][0] + len(run[-1][1]) - offset
        if size is None or offset + length <= size:
            try:
                if os.pwritev(self._fd, [one[1] for one in run], offset) == length:
                    outcomes += [(one, None) for one in run]
                    return
            except Exception:  # noqa: BLE001, S110 - one of them: it will say so
                pass
        outcomes += [(one, self._each(one[0], one[1], size)) for one in run]

    def _each(self, offset: int, data: Buffer, size: int | None) -> Failure | None:
        try:
            if size is not None and offset + len(data) > size:
                raise shorter(max(offset, size))  # noqa: TRY301 - one outcome of two
            write_all(self._fd, offset, data)
        except Exception:  # noqa: BLE001 - whatever it is, it is this write's
            return Failure()
        return None


def _runs(jobs: list[_Job]) -> Iterator[list[_Job]]:
    """
    Yield the jobs in order, writes together that are each where the last one ended.
    """
    run: list[_Job] = []
    end = -1
    for job in jobs:
        offset, what, _done = job
        if type(what) is int:
            at = -1
        else:
            at = offset + len(what)
            if offset == end and len(run) < _IOV_MAX:
                run.append(job)
                end = at
                continue
        if run:
            yield run
        run = [job]
        end = at
    if run:
        yield run
