# SPDX-License-Identifier: MIT
"""
The state directory: what devices remember over restarts.

One small JSON file a device, replaced atomically: a crash leaves the old one or the
new. A device's file is locked while the device is open.  A second process that opens a
device of the same name is another device: it gets an identity of its own, which is not
kept, so that two disks never have one name.

A file may still be damaged, by a medium or by a person.  Beside it is a backup
(`scstd.management.backup`) with everything but the reservations, and whether there were
any: an identity is not lost with the file, and a stale reservation is never believed.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.interfaces import Result
from scstd.management import backup
from scstd.management.durable import (
    SUFFIX,
    DamagedError,
    open_lock,
    path_of,
    write_atomically,
)
from scstd.management.record import Record

_log = Logger()


def encoded(values: dict[str, Any]) -> bytes:
    """
    Return what a file of these values has in it.
    """
    return json.dumps(values, indent=1).encode() + b"\n"


@attrs.define(eq=False)
class DeviceMemory:
    """
    What one device remembers (`scstd.scsi.memory.Memory`).

    Files are written by *lane*: an fsync would delay the reactor.  *values* are what is
    on the disk; what is updated while it is written goes there with the next write,
    together.  What cannot be written is not remembered.
    """

    path: Path
    lane: Lane
    lock: int = -1
    values: dict[str, Any] = attrs.field(factory=dict)
    _copy: bytes = b""
    _updates: list[tuple[str, Any, Deferred[None]]] = attrs.field(factory=list)
    _writing: bool = False
    _gathering: bool = False
    _settling: list[Deferred[None]] = attrs.field(factory=list)
    _failed: Failure | None = None
    _record: Record = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._record = Record(self.path.with_suffix(".record"))

    @property
    def durable(self) -> bool:
        """Whether the file is ours."""
        return self.lock >= 0

    def __str__(self) -> str:
        """Return the file's name."""
        return str(self.path)

    def load(self) -> dict[str, Any]:
        """Return what there is."""
        return {**self.values, **self._updated(self._updates)}

    @staticmethod
    def _updated(updates: Iterable[tuple[str, Any, Any]]) -> dict[str, Any]:
        return {key: value for key, value, _kept in updates}

    def update(self, key: str, value: Any) -> Result[None]:
        """Replace one entry, on the disk too if the file is ours."""
        if not self.durable:
            self.values[key] = value
            return None
        kept: Deferred[None] = Deferred()
        self._updates.append((key, value, kept))
        if not (self._writing or self._gathering):
            self._write()
        return kept

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
        if copy == self._copy:
            files = files[:1]
        elif values.get(backup.GUARDED):
            files.reverse()
        self._writing = True
        self.lane.call(_write_files, files).addBoth(
            self._written, updates, values, copy
        )

    def _written(
        self,
        result: Any,
        updates: Sequence[tuple[str, Any, Deferred[None]]],
        values: dict[str, Any],
        copy: bytes,
    ) -> None:
        self._writing = False
        del self._updates[: len(updates)]
        told = [kept for _key, _value, kept in updates]
        failure = result if isinstance(result, Failure) else None
        if failure is None:
            self.values, self._copy = values, copy
        else:
            # Whatever is there now, it is not what we think.
            self._copy = b""
            self._failed = self._failed or failure
        if self._updates:
            self._write()
        settling: list[Deferred[None]] = []
        if not self._writing:
            settling, self._settling = self._settling, settling
        _tell(told, failure)
        if settling:
            # `settled` tells of all: nobody need look at each.
            for one in told:
                one.addErrback(lambda _: None)
            failed, self._failed = self._failed, None
            _tell(settling, failed)

    def keep(self, record: bytes) -> Result[None]:
        """Replace the record, on the disk if the file is ours."""
        if not self.durable:
            return None
        kept: Deferred[None] = self.lane.call(self._record.replace, record)
        return kept

    def kept(self) -> bytes:
        """Return the record."""
        return self._record.read() if self.durable else b""

    async def settled(self) -> None:
        """
        Wait until everything is on the disk.

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

    def close(self) -> None:
        """Unlock it."""
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


def _write_files(files: Sequence[tuple[Path, bytes]]) -> None:
    for path, content in files:
        write_atomically(path, content)


@attrs.frozen
class StateDirectory:
    """
    A directory of devices' files, made when it is first needed.
    """

    path: Path

    def device(
        self, key: str, lane: Lane, *, other: str = "", origin: str = ""
    ) -> DeviceMemory:
        """
        Return the memory of the device known by *key*; *lane* writes its file.

        A device that has none takes over the one known by the key *other*, if that is
        of the same *origin* and not open: it is the same device, configured otherwise.

        :raises ConfigurationError: the directory or the file cannot be used.
        """
        directory = self.path / "devices"
        name = key.replace("/", "_")
        file = directory / f"{name}.json"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = open_lock(file)
        except OSError as error:
            raise ConfigurationError(
                f"state directory {self.path}: {error}; choose another with --state-dir"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            _log.warn(
                "device {key} is open in another process: this one gets an identity"
                " of its own, which is not kept",
                key=key,
            )
            return DeviceMemory(file, lane)
        try:
            if other and not file.exists():
                self._take_over(directory / other.replace("/", "_"), file, origin)
            values, copy = backup.load(file)
        except (OSError, DamagedError) as error:
            os.close(lock)
            raise ConfigurationError(f"{file}: {error}") from error
        return DeviceMemory(file, lane, lock, values, self._mended(file, values, copy))

    @staticmethod
    def _mended(file: Path, values: dict[str, Any], copy: bytes) -> bytes:
        """
        Make good what of the two files is not as it is to be; return what the backup
        has.  If that fails nothing is lost yet: the next change has to succeed.
        """
        wanted = encoded(backup.copy_of(values))
        if not values:
            return b""
        try:
            if not file.exists():
                write_atomically(file, encoded(values))
            if copy != wanted:
                # A crash came between the two files, or a person has edited one.
                write_atomically(path_of(file), wanted)
        except OSError as error:
            _log.warn("{file}: {error}", file=str(file), error=error)
            return b""
        return wanted

    @staticmethod
    def _take_over(base: Path, file: Path, origin: str) -> None:
        """
        Move another key's file to *file*, under that key's lock; or leave all as it is.
        The record beside it goes first: a crash between the two is made up for then.
        """
        before = base.with_name(f"{base.name}.json")
        if not before.exists() and not path_of(before).exists():
            return
        lock = open_lock(before)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            values, _copy = backup.load(before)
            if values.get("origin") == origin:
                for suffix in (".record", SUFFIX, ".json"):
                    one = before.with_suffix(suffix)
                    if one.exists():
                        one.replace(file.with_suffix(suffix))
        except (OSError, DamagedError) as error:
            _log.warn("{file} is not taken over: {error}", file=before, error=error)
        finally:
            os.close(lock)
