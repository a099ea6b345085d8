# SPDX-License-Identifier: MIT
"""
The link between the front and a worker: calls, their answers, and open files.

A Unix stream socket pair, of which each end is one process's.  A message is its length,
what it is, its number, and a pickle.  Whoever can write a pickle can have anything done
where it is read; but both ends are one program, started by one parent, which has made
the pair and given it to nobody else: it is what `multiprocessing` does, too.

Plugins travel by their names: each end has its own.  An open file goes beside its
message (SCM_RIGHTS) and is known at the other end by device and inode, so that one that
could not be received, for want of descriptors, is never taken for another's.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from inspect import iscoroutine
from typing import Any

import attrs
from twisted.internet.defer import Deferred, ensureDeferred, fail, maybeDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IFileDescriptorReceiver, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from scstd.attributes import ConfigurationError
from scstd.block.checked import StoreFault
from scstd.installed import words
from scstd.interfaces import IDeviceHandler, IFilter, ITargetDriver
from scstd.management.errors import TreeError
from scstd.management.model.warnings import heard, hearing
from scstd.plugin import find_device_handler, find_filter, find_target_driver

_log = Logger()

LONGEST = 1 << 28
"""Bytes of a message: a configuration of 10,000 targets is a tenth of that."""

_HEADER = struct.Struct(">IBQ")

_CALL, _TELL, _ANSWER = range(3)

_PLUGINS: Mapping[Any, Callable[[str], Any]] = {
    IDeviceHandler: find_device_handler,
    IFilter: find_filter,
    ITargetDriver: find_target_driver,
}
"""What travels by its name, and how it is found."""


class RemoteFault(Exception):  # noqa: N818 - a fault of the other end, in its log
    """
    Something failed at the other end that nobody expected: its log has the traceback.
    """


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Reduce plugins to their names."""
        if not isinstance(obj, type):
            for number, interface in enumerate(_PLUGINS):
                if interface.providedBy(obj):
                    return _plugin, (number, obj.name)
        return NotImplemented


def _plugin(number: int, name: str) -> Any:
    return list(_PLUGINS.values())[number](name)


def packed(message: Any) -> bytes:
    """
    Return what travels.

    :raises RemoteFault: it cannot, or is too long.
    """
    into = io.BytesIO()
    try:
        _Pickler(into, pickle.HIGHEST_PROTOCOL).dump(message)
    except Exception as error:
        raise RemoteFault(f"this cannot be sent: {words(error)}") from error
    if into.tell() > LONGEST:
        raise RemoteFault(f"{into.tell()} bytes are too many for a message")
    return into.getvalue()


@attrs.frozen
class _Refusal:
    """
    An error on its way: its class by name, its number if it has one, its text.
    """

    kind: str
    errno: int | None
    text: str
    file: str | None = None

    @classmethod
    def of(cls, failure: Failure, name: str) -> _Refusal:
        error = failure.value
        number = getattr(error, "errno", None)
        if isinstance(error, ConfigurationError):
            return cls("tree" if isinstance(number, int) else "", number, str(error))
        if isinstance(error, OSError):
            file = error.filename if isinstance(error.filename, str) else None
            return cls("os", number, error.strerror or str(error), file)
        if isinstance(error, StoreFault):
            return cls("store", None, str(error))
        if isinstance(error, RemoteFault):
            return cls("fault", None, str(error))
        _log.failure("{name} failed", failure, name=name)
        return cls("fault", None, failure.getErrorMessage())

    def error(self) -> Exception:
        """Return the error again."""
        if self.kind == "tree":
            return TreeError(self.errno or errno.EINVAL, self.text)
        if self.kind == "os":
            if self.errno is None:
                return OSError(self.text)
            return OSError(self.errno, self.text, self.file)
        kinds = {"store": StoreFault, "fault": RemoteFault}
        return kinds.get(self.kind, ConfigurationError)(self.text)


@attrs.define(eq=False)
class _Waiting:
    """
    A call that was not answered yet; *fd* is a copy of the file that went with it.
    """

    answered: Deferred[Any]
    context: Context
    fd: int | None

    def close(self) -> None:
        """The other end has the file by now, or never will."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


@implementer(IFileDescriptorReceiver, IPushProducer)
class Link(Protocol):
    """
    One end.  *answers* are the functions that the other end may call, by name: what
    they return or raise travels back; a Deferred and a coroutine are waited for.  One
    whose call brings an open file is given it as *fd*, and has to close it.

    *gone* is called once, with why, when there is no other end any more.
    """

    def __init__(
        self,
        answers: Mapping[str, Callable[..., Any]],
        gone: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self._answers = answers
        self._gone = gone
        self._calls: dict[int, _Waiting] = {}
        self._last = 0
        self._received = bytearray()
        self._files: deque[int] = deque()
        self.congested = False
        """Whether the other end takes less than it is told."""
        self.relieved: Callable[[], None] = lambda: None
        """Called when it takes it again."""

    # What goes out.

    def call(self, name: str, *args: Any, fd: int | None = None) -> Deferred[Any]:
        """
        Have the other end call something; fire with what it returns.  *fd* is an open
        file that goes with it: a copy, this one stays the caller's.

        It fails with what was raised there: `ConfigurationError`, `TreeError`, OSError
        and `StoreFault` as they were, anything else as `RemoteFault`; with
        ConnectionLost if the link goes, or has gone.  What was there to be said
        (`scstd.management.model.warnings`) is heard here.
        """
        if not self.connected:
            return fail(ConnectionLost("there is no link"))
        self._last += 1
        number = self._last
        waiting = _Waiting(
            Deferred(lambda _deferred: self._forget(number)), copy_context(), None
        )
        try:
            known = None
            if fd is not None:
                waiting.fd = os.dup(fd)
                known = _identity(waiting.fd)
            data = packed((name, args, known))
        except (OSError, RemoteFault):
            waiting.close()
            return fail()
        self._calls[number] = waiting
        if waiting.fd is not None:
            self.transport.sendFileDescriptor(waiting.fd)  # type: ignore[union-attr]
        self._send(_CALL, number, data)
        return waiting.answered

    def tell(self, name: str, *args: Any) -> None:
        """
        Have the other end call something, and hear nothing of it.

        :raises RemoteFault: it cannot be sent.
        """
        if self.connected:
            self._send(_TELL, 0, packed((name, args, None)))

    def close(self) -> None:
        """
        End the link when all that was said has gone out.
        """
        if self.transport is not None:
            self.transport.loseConnection()

    def abort(self) -> None:
        """
        End the link now.
        """
        if self.transport is not None:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def _send(self, kind: int, number: int, data: bytes) -> None:
        assert self.transport is not None
        header = _HEADER.pack(len(data), kind, number)
        self.transport.writeSequence([header, data])

    def _forget(self, number: int) -> None:
        # Cancelled; the file is kept until it has arrived.
        if number in self._calls:
            nobody = self._calls[number].answered = Deferred()
            nobody.addErrback(lambda _failure: None)

    # What comes in.

    def connectionMade(self) -> None:
        """Hear when the other end is slow."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]

    def pauseProducing(self) -> None:
        """Know that much waits to go out."""
        self.congested = True

    def resumeProducing(self) -> None:
        """Know that all has gone out."""
        self.congested = False
        self.relieved()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    def fileDescriptorReceived(self, descriptor: int) -> None:  # noqa: N802
        """Keep a file for the message that it belongs to, which comes after it."""
        os.set_inheritable(descriptor, False)
        self._files.append(descriptor)

    def dataReceived(self, data: bytes) -> None:
        """Take messages that are whole."""
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _HEADER.size:
            length, kind, number = _HEADER.unpack_from(received, start)
            begin = start + _HEADER.size
            start = begin + length
            if len(received) < start:
                start = begin - _HEADER.size
                break
            self._take(kind, number, bytes(received[begin:start]))
        del received[:start]

    def _take(self, kind: int, number: int, data: bytes) -> None:
        try:
            message = pickle.loads(data)  # noqa: S301 - see above
        except Exception:  # noqa: BLE001 - a plugin that is not here, or cannot be used
            refusal = _Refusal.of(Failure(), "reading a message")
            if kind == _ANSWER:
                self._answered(number, refusal, [])
            elif kind == _CALL:
                self._answer(refusal, number, [])
        else:
            if kind == _ANSWER:
                self._answered(number, *message)
            else:
                self._asked(kind, number, *message)

    def _asked(self, kind: int, number: int, name: Any, args: Any, known: Any) -> None:
        with hearing() as said:
            done = maybeDeferred(self._called, name, args, known)
        if kind == _CALL:
            done.addErrback(_Refusal.of, name)
            done.addCallback(self._answer, number, said)
        done.addErrback(
            lambda failure: _log.failure("{name} failed", failure, name=name)
        )

    def _called(self, name: str, args: Any, known: tuple[int, int] | None) -> Any:
        file = self._file(known)
        function = self._answers.get(name)
        if function is None:
            if file is not None:
                os.close(file)
            raise RemoteFault(f"nobody answers to {name!r}")
        result = function(*args) if file is None else function(*args, fd=file)
        return ensureDeferred(result) if iscoroutine(result) else result

    def _file(self, known: tuple[int, int] | None) -> int | None:
        """
        Return the file that belongs to a message.

        :raises OSError: it did not come: this process has no descriptors left.
        """
        if known is None:
            return None
        for at, file in enumerate(self._files):
            if _identity(file) == known:
                for _before in range(at):
                    os.close(self._files.popleft())
                return self._files.popleft()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _answer(self, result: Any, number: int, said: list[str]) -> None:
        if not self.connected:
            return
        try:
            data = packed((result, said))
        except RemoteFault as fault:
            _log.error("an answer: {why}", why=str(fault))
            data = packed((_Refusal("fault", None, str(fault)), said))
        self._send(_ANSWER, number, data)

    def _answered(self, number: int, result: Any, said: list[str]) -> None:
        waiting = self._calls.pop(number)
        waiting.close()
        for text in said:
            waiting.context.run(heard, text)
        if isinstance(result, _Refusal):
            waiting.answered.errback(result.error())
        else:
            waiting.answered.callback(result)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Have what was not answered fail."""
        self.connected = 0
        why = "it was closed"
        if not reason.check(ConnectionDone):
            why = reason.getErrorMessage()
        while self._files:
            os.close(self._files.popleft())
        self._received.clear()
        calls, self._calls = self._calls, {}
        for waiting in calls.values():
            waiting.close()
            waiting.answered.errback(ConnectionLost(why))
        self._gone(why)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def attach(reactor: Any, end: socket.socket, link: Link) -> None:
    """
    Make a link of one end of a socket pair, which is taken over.
    """
    end.setblocking(False)
    with end:
        reactor.adoptStreamConnection(
            end.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: link)
        )
