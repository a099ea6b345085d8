# SPDX-License-Identifier: MIT
"""
The contract of `ICommandDevice`, enforced: what `scstd.block.checked` is for stores.

Whatever a device answers or raises, a command ends with a status and sense data that an
initiator can take.  What is wrong is logged in one line (device, handler, call, what
came; never the bytes), and ends the command with HARDWARE ERROR, INTERNAL TARGET
FAILURE.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import alsoProvides
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from scstd.block.answers import WrongError, shown, whole, words
from scstd.block.checked import StoreFault
from scstd.block.nothing import Nothing
from scstd.interfaces import (
    Asker,
    Buffer,
    CommandAnswer,
    ICommandDevice,
    ISessions,
    IVolatile,
    LunSession,
)
from scstd.scsi.sam import Status

_log = Logger()

_STATUSES = frozenset(map(int, Status))

_BYTES = (bytes, bytearray, memoryview)


class CheckedDevice(Nothing):
    """
    A device before *inner* that keeps the contract; as a store it has no bytes.

    *device* and *who* ("handler x") are for the log.
    """

    def __init__(self, inner: Any, device: str, who: str) -> None:
        super().__init__(512)
        self.inner = inner
        self.device = device
        self.who = who
        self.device_type: int = inner.device_type
        self.bottom = self
        self.lent = False
        alsoProvides(self, ICommandDevice)
        for one in (ISessions, IVolatile):
            if one.providedBy(inner):
                alsoProvides(self, one)

    def execute(
        self, cdb: bytes, data_out: Buffer, data_in_length: int, asker: Asker
    ) -> Deferred[CommandAnswer] | CommandAnswer:
        """As `ICommandDevice.execute`; raises `StoreFault` or an OSError."""
        call = f"execute({cdb[0]:02x}h)"

        def look(answer: Any) -> CommandAnswer:
            try:
                return _sound(answer, len(data_out), data_in_length)
            except WrongError as error:
                raise self._fault(call, str(error)) from None
            except Exception as error:
                what = f"returned an answer that raised {words(error)}"
                raise self._fault(call, what) from error

        answer: Deferred[CommandAnswer] | CommandAnswer = self._called(
            call,
            lambda: self.inner.execute(cdb, data_out, data_in_length, asker),
            look,
        )
        return answer

    def abort(self, asker: Asker) -> None:
        """As `ICommandDevice.abort`; what goes wrong is logged."""
        self._noted("abort", lambda: self.inner.abort(asker))

    def reset(self) -> Any:
        """As `ICommandDevice.reset`; what goes wrong is logged."""
        done = self._noted("reset", self.inner.reset)
        return done if isinstance(done, Deferred) else None

    def close(self) -> Any:
        """As `ICommandDevice.close`; what is lent is not closed."""
        if self.lent:
            return None
        return self._called("close", self.inner.close, lambda _: None)

    def session_opened(self, session: LunSession) -> None:
        """As `ISessions.session_opened`; what goes wrong is logged."""
        self._noted("session_opened", lambda: self.inner.session_opened(session))

    def session_closed(self, session: LunSession) -> None:
        """As `ISessions.session_closed`; what goes wrong is logged."""
        self._noted("session_closed", lambda: self.inner.session_closed(session))

    def _called(
        self, call: str, function: Callable[[], Any], look: Callable[[Any], Any]
    ) -> Any:
        try:
            result = function()
        except BaseException as error:
            raise self._raised(call, error) from error
        if inspect.iscoroutine(result):
            result = Deferred.fromCoroutine(result)
        if not isinstance(result, Deferred):
            return look(result)
        # A Deferred of its own: who has the device's may do as they like with that.
        outer: Deferred[Any] = Deferred()

        def fired(value: Any) -> None:
            try:
                if isinstance(value, Failure):
                    error: Any = value.value or RuntimeError(value.type)
                    raise self._raised(call, error, value)  # noqa: TRY301
                found = look(value)
            except BaseException:  # noqa: BLE001 - it ends the command
                outer.errback(Failure())
            else:
                outer.callback(found)

        result.addBoth(fired)
        return outer

    def _noted(self, call: str, function: Callable[[], Any]) -> Any:
        """
        Call what answers nothing that anybody could be told of.
        """

        def over(failure: Failure) -> None:
            error: Any = failure.value
            if not isinstance(error, StoreFault):
                self._fault(call, f"raised {words(error)}")

        try:
            done = self._called(call, function, lambda _: None)
        except StoreFault:
            return None
        except BaseException as error:  # noqa: BLE001 - it is somebody's
            self._fault(call, f"raised {words(error)}")
            return None
        return done.addErrback(over) if isinstance(done, Deferred) else None

    def _raised(
        self, call: str, error: BaseException, failure: Failure | None = None
    ) -> BaseException:
        if isinstance(error, (OSError, StoreFault)):
            return error
        _log.failure(
            "{device}: {who}: {call} raised {what}",
            failure=failure or Failure(error),
            device=self.device,
            who=self.who,
            call=call,
            what=words(error),
        )
        return StoreFault(f"{self.who}: {call} raised {words(error)}")

    def _fault(self, call: str, what: str) -> StoreFault:
        _log.error(
            "{device}: {who}: {call} {what}",
            device=self.device,
            who=self.who,
            call=call,
            what=what,
        )
        return StoreFault(f"{self.who}: {call} {what}")


def _sound(answer: Any, data_out: int, data_in: int) -> CommandAnswer:
    """
    Return an answer that makes sense, with bytes that nobody changes.
    """
    if not isinstance(answer, CommandAnswer):
        raise WrongError(f"returned {shown(answer)}, not an CommandAnswer")
    status: Any = answer.status
    sense: Any = answer.sense
    data: Any = answer.data_in
    if not whole(status) or status not in _STATUSES:
        raise WrongError(f"returned status {shown(status)}")
    if not (isinstance(sense, _BYTES) and isinstance(data, _BYTES)):
        raise WrongError(f"returned sense data {shown(sense)}, data {shown(data)}")
    if memoryview(data).nbytes > data_in:
        raise WrongError(
            f"returned {memoryview(data).nbytes} bytes, where {data_in} are expected"
        )
    if not whole(answer.residual) or answer.residual > data_out:
        raise WrongError(
            f"returned a residual of {shown(answer.residual)}, of {data_out} bytes"
        )
    sense = bytes(sense)
    if (status == Status.CHECK_CONDITION) != bool(sense):
        raise WrongError(f"returned status {status:02x}h, {len(sense)} bytes of sense")
    if sense and not _is_sense(sense):
        raise WrongError(f"returned {len(sense)} bytes that are no sense data")
    return CommandAnswer(int(status), sense[:252], bytes(data), int(answer.residual))


def _is_sense(sense: bytes) -> bool:
    """
    Say whether bytes are sense data that has an additional sense code.
    """
    kind = sense[0] & 0x7F
    return len(sense) >= {0x70: 14, 0x71: 14, 0x72: 8, 0x73: 8}.get(kind, 256)


def checked_device(device: Any, name: str, who: str = "") -> CheckedDevice:
    """
    Return a device with its contract enforced.

    :raises ValueError: it does not provide what it says.
    """
    if isinstance(device, CheckedDevice):
        return device
    who = who or f"device {type(device).__name__}"
    try:
        kind = device.device_type
        verifyObject(ICommandDevice, device)
    except Invalid as error:
        raise ValueError(f"{who}: {' '.join(str(error).split())}") from error
    except Exception as error:
        raise ValueError(f"{who}: its device raised {words(error)}") from error
    if type(kind) is not int or not 0 <= kind <= 0x1F:
        raise ValueError(f"{who}: device_type is {shown(kind)}, not 0 to 1Fh")
    return CheckedDevice(device, name, who)
