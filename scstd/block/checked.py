# SPDX-License-Identifier: MIT
"""
The contract of `scstd.interfaces`, enforced: what the device server calls is never a
store, but a `Checked` before it.

Stores and filters are other people's, and one that returns half a block, a string or
a coroutine would else become GOOD with somebody's old bytes, or the end of a
connection.  So every answer is looked at in one place, which no command can pass by:
`LogicalUnit.store` is a `Checked`.  Filters get one too, so that the log names the
layer that broke its word and not the one above it.

What is wrong is logged in one line (device, handler or filter, call, what came; never
the bytes) and raised as `StoreFault`: HARDWARE ERROR, INTERNAL TARGET FAILURE.

On the path of a READ this is one call, a type and a length.  (It has no
``__getattr__``: CPython would look up every attribute slowly because of it.)
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from scstd.block.answers import (
    ANSWERS,
    AT_ONCE,
    WrongError,
    call_of,
    nothing,
    plain,
    shown,
    whole,
    words,
)
from scstd.block.around import Around
from scstd.block.promises import coroutines_of, refused, wrong_size
from scstd.interfaces import (
    Buffer,
    IBackstore,
    IGivenBuffers,
    ISessions,
    LunSession,
)

_log = Logger()

_CONFIGURED = ("resize", "resync_size", "change")
"""Methods that a person calls, and that may tell that person why not."""


_EACH = 16
"""Faults of a store that have a line of the log each."""


@attrs.frozen
class Home:
    """
    Where a store is called: *here* says whether this is that thread, *call* has
    something called in it (`IReactorFromThreads.callFromThread`).
    """

    here: Callable[[], bool]
    call: Callable[..., object]


class StoreFault(Exception):  # noqa: N818 - a fault of the store's, already logged
    """
    A store did not keep the contract.  It is in the log.
    """


class Checked(Around):
    """
    A store before *inner* that keeps the contract whatever *inner* does.

    *device* and *who* ("handler x", "filter x") are for the log.  With *home* a store
    that fires its Deferreds in a thread of its own is named and put right.

    *bottom* is the store behind all filters, if whoever opened it has said so.  While
    that is *lent* closing a filter before it leaves it open.
    """

    def __init__(
        self, inner: Any, device: str, who: str, home: Home | None = None
    ) -> None:
        super().__init__(inner)
        self.device = device
        self.who = who
        self._home = home
        self._strayed = False
        self._faults = 0
        self._size: int = inner.size
        self._coroutines = coroutines_of(inner)
        self.bottom: Any = None
        self.lent = False
        self._given = IGivenBuffers.providedBy(inner)
        # What our own handlers fire comes from a `Lane`, and their tests look at it: on
        # the path of each write a second Deferred would cost a tenth.
        self._ours = type(inner).__module__.startswith("scstd.handlers.")
        directlyProvides(self, providedBy(inner))

    @property
    def size(self) -> int:
        """The store's size; the last one that made sense."""
        inner = self.inner
        try:
            size = inner.size
        except Exception as error:  # noqa: BLE001 - somebody's property
            self._tell("size", f"raised {words(error)}")
            return self._size
        if size != self._size or type(size) is not int:
            why = wrong_size(size, inner.block_size, drive=True)
            if why:
                self._tell("size", why)
            else:
                self._size = size
        return self._size

    # The path.

    def read(self, offset: int, length: int) -> Any:
        """As `IBackstore.read`."""
        try:
            data = self.inner.read(offset, length)
        except BaseException as error:
            raise self._raised(error, "read", (offset, length)) from error
        kind = type(data)
        if kind is bytes or (kind is bytearray and self._given):
            if len(data) == length:
                return data
        elif kind is memoryview and plain(data) and len(data) == length:
            return data
        return self._settle(data, "read", self._data, (offset, length))

    def write(self, offset: int, data: Buffer, fua: bool) -> Any:
        """As `IBackstore.write`."""
        try:
            done = self.inner.write(offset, data, fua)
        except BaseException as error:
            raise self._raised(error, "write", (offset, data, fua)) from error
        if done is None or (self._ours and type(done) is Deferred):
            return done
        return self._settle(done, "write", nothing, (offset, data, fua))

    def _data(self, data: Any, args: Sequence[Any]) -> Buffer:
        """
        Return bytes that are as many as they should be, and that nobody changes.
        """
        length = args[1]
        if isinstance(data, (bytes, bytearray)):
            # Of a subclass that may say anything of itself.
            size = memoryview(data).nbytes
        elif isinstance(data, memoryview):
            size = data.nbytes
        else:
            raise WrongError(f"returned {shown(data)}, not {length} bytes")
        if size != length:
            raise WrongError(f"returned {size} bytes, not {length}")
        if isinstance(data, memoryview):
            if not data.c_contiguous or not (data.readonly or self._given):
                return data.tobytes()
            return data if plain(data) else data.cast("B")
        return data if self._given and type(data) is bytearray else bytes(data)

    # What goes wrong, and how.

    def _settle(
        self,
        result: Any,
        name: str,
        look: Callable[[Any, Sequence[Any]], Any],
        args: Sequence[Any],
    ) -> Any:
        """
        Return what a call has answered, looked at; later if it is a Deferred.
        """
        if isinstance(result, Deferred):
            if name not in AT_ONCE:
                return self._later(result, name, look, args)
            result.addBoth(_dispose)
        if inspect.iscoroutine(result):
            if name in self._coroutines:
                return self._later(Deferred.fromCoroutine(result), name, look, args)
            _dispose(result)
        try:
            return look(result, args)
        except WrongError as error:
            raise self._wrong(name, args, str(error)) from None
        except Exception as error:
            what = f"returned {type(result).__qualname__}: {words(error)}"
            raise self._wrong(name, args, what) from error

    def _later(
        self,
        result: Deferred[Any],
        name: str,
        look: Callable[[Any, Sequence[Any]], Any],
        args: Sequence[Any],
    ) -> Deferred[Any]:
        before = result.__dict__.setdefault("looked_at_by", [])
        if self in before:
            # Whoever had it first has taken its result, and its error, out of it.
            raise self._wrong(name, args, "returned a Deferred for the second time")
        before.append(self)
        outer: Deferred[Any] = Deferred()
        result.addBoth(self._fired, outer, name, look, args)
        return outer

    def _fired(self, value: Any, outer: Deferred[Any], *call: Any) -> None:
        if self._home is None or self._home.here():
            if value is None and call[1] is nothing:
                # A write is done: the usual case, written out.
                outer.callback(None)
            else:
                self._answered(value, outer, *call)
        else:
            self._stray(call_of(call[0], call[2]))
            self._home.call(self._answered, value, outer, *call)

    def _answered(
        self,
        value: Any,
        outer: Deferred[Any],
        name: str,
        look: Callable[[Any, Sequence[Any]], Any],
        args: Sequence[Any],
    ) -> None:
        """
        Hand on, in the reactor, what a Deferred has fired with.
        """
        try:
            if isinstance(value, Failure):
                outer.errback(self._failed(value, name, args))
                return
            checked = self._settle(value, name, look, args)
        except StoreFault:
            outer.errback(Failure())
        else:
            if isinstance(checked, Deferred):
                checked.chainDeferred(outer)
            else:
                outer.callback(checked)

    def _failed(self, failure: Failure, name: str, args: Sequence[Any]) -> Failure:
        error: Any = failure.value
        if error is None:
            error = failure.type
        fault = self._raised(error, name, args, failure)
        if fault is error:
            return failure
        return Failure(fault)

    def _raised(
        self,
        error: BaseException,
        name: str,
        args: Sequence[Any],
        failure: Failure | None = None,
    ) -> BaseException:
        """
        Return what is raised for what a store has raised: an OSError of its own, one
        that makes sense; of a change of size or medium, what says that it cannot be; or
        else a fault, logged with its traceback.
        """
        if isinstance(error, StoreFault):
            return error
        if isinstance(error, OSError):
            return self._sensible(error)
        if isinstance(error, ValueError) and name in _CONFIGURED:
            return error
        what = f"{call_of(name, args)} raised {words(error)}"
        times = self._again()
        if times is not None:
            _log.failure(
                "{device}: {who}: {what}{times}",
                failure=failure or Failure(error),
                device=self.device,
                who=self.who,
                what=what,
                times=times,
            )
        return StoreFault(f"{self.who}: {what}")

    def _sensible(self, error: OSError) -> OSError:
        """
        Return an error whose number is one, and whose place is in the store.
        """
        number, at = error.errno, getattr(error, "offset", None)
        placed = at is None or (whole(at) and 0 <= at < max(self._size, 1))
        if placed and (number is None or whole(number)):
            return error
        return OSError(number if whole(number) else errno.EIO, words(error))

    def _wrong(self, name: str, args: Sequence[Any], what: str) -> StoreFault:
        return self._tell(call_of(name, args), what)

    def _tell(self, call: str, what: str) -> StoreFault:
        times = self._again()
        if times is not None:
            _log.error(
                "{device}: {who}: {call} {what}{times}",
                device=self.device,
                who=self.who,
                call=call,
                what=what,
                times=times,
            )
        return StoreFault(f"{self.who}: {call} {what}")

    def _again(self) -> str | None:
        """
        Return what a line of the log says of how often it is wrong; None if it need not
        say it again: after the first ones each line stands for as many as all before.
        """
        self._faults += 1
        if self._faults <= _EACH:
            return ""
        if self._faults & (self._faults - 1):
            return None
        return f" ({self._faults} faults so far)"

    def _stray(self, call: str) -> None:
        """
        Say, once, that the store calls back in a thread of its own.
        """
        if not self._strayed:
            self._strayed = True
            self._tell(call, "called back in a thread, not in the reactor's")

    # Being told.

    def session_opened(self, session: LunSession) -> None:
        """As `ISessions.session_opened`."""
        self._note("session_opened", session)

    def session_closed(self, session: LunSession) -> None:
        """As `ISessions.session_closed`."""
        self._note("session_closed", session)

    def _note(self, name: str, session: LunSession) -> None:
        """
        Have the store take note of something: whatever it does then harms nobody.
        """
        try:
            told = getattr(self.inner, name)(session)
        except OSError as error:
            self._tell(name, f"raised {words(error)}")
        except BaseException as error:  # noqa: BLE001 - it is somebody's
            self._raised(error, name, (session,))
        else:
            with suppress(StoreFault):
                self._settle(told, name, nothing, (session,))

    def on_resize(self, call: Callable[[int], object]) -> None:
        """As `IResizeNotice.on_resize`."""
        self.inner.on_resize(self._at_home("on_resize", call))

    def on_medium(self, call: Callable[[], object]) -> None:
        """As `IRemovableMedium.on_medium`."""
        self.inner.on_medium(self._at_home("on_medium", call))

    def _at_home(self, name: str, call: Callable[..., object]) -> Callable[..., None]:
        def told(*args: Any) -> None:
            if self._home is None or self._home.here():
                call(*args)
            else:
                self._stray(name)
                self._home.call(call, *args)

        return told


def _dispose(result: Any) -> None:
    """
    Let go of what nobody will look at, without a complaint of Python's or Twisted's.
    """
    if inspect.iscoroutine(result):
        result.close()


def _method(name: str, look: Callable[[Any, Sequence[Any]], Any]) -> Any:
    def method(self: Checked, *args: Any) -> Any:
        try:
            result = getattr(self.inner, name)(*args)
        except BaseException as error:
            raise self._raised(error, name, args) from error
        return self._settle(result, name, look, args)

    method.__name__ = name
    method.__doc__ = f"As `{ANSWERS[name][0].__name__}.{name}`."
    return method


for _name, (_interface, _look) in ANSWERS.items():
    if _interface is not ISessions:
        setattr(Checked, _name, _method(_name, _look))

_close = _method("close", ANSWERS["close"][1])


def _close_own(self: Checked) -> Any:
    """As `IBackstore.close`; what is lent is not closed."""
    return None if self.lent else _close(self)


setattr(Checked, "close", _close_own)  # noqa: B010 - as those above


# When it is opened.


def checked(
    store: Any, device: str, who: str = "", home: Home | None = None
) -> IBackstore:
    """
    Return *store* with its contract enforced.

    :raises ValueError: it does not provide what it says, or has impossible sizes.
    """
    if isinstance(store, Checked):
        made: Any = store
    else:
        who = who or f"store {type(store).__name__}"
        why = refused(store)
        if why:
            raise ValueError(f"{who}: {why}")
        made = Checked(store, device, who, home)
    return IBackstore(made)
