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
from scstd.management.record import Record

_log = Logger()


def default_directory() -> Path:
    """
    Return where state is kept unless ``--state-dir`` says otherwise: what the service
    manager names, /var/lib/scstd for root, else the user's state directory.
    """
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/scstd")
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "scstd"


def write_atomically(path: Path, data: bytes, *, like: Path | None = None) -> None:
    """
    Replace a file's content, durably: a crash leaves the old or the new one.

    The file is its owner's alone, unless it has the mode and owner of *like*.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if like is not None and like.exists():
            there = like.stat()
            os.fchmod(fd, there.st_mode & 0o777)
            if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, there.st_uid, there.st_gid)
        # All of it or an error: a disk that becomes full cuts a bare write short.
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except BaseException:
        temporary.unlink()
        raise
    finally:
        os.close(fd)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def encoded(values: dict[str, Any]) -> bytes:
    """
    Return what a file of these values has in it.
    """
    return json.dumps(values, indent=1).encode() + b"\n"


@attrs.define(eq=False)
class DeviceMemory:
    """
    What one device remembers (`scstd.scsi.memory.Memory`).

    Files are written by *lane*, one after the other: an fsync would delay the reactor.
    """

    path: Path
    lane: Lane
    lock: int = -1
    values: dict[str, Any] = attrs.field(factory=dict)
    _copy: bytes = b""
    _last: Deferred[None] | None = None
    _gathered: list[Deferred[None]] | None = None
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
        return dict(self.values)

    def update(self, key: str, value: Any) -> Result[None]:
        """Replace one entry, on the disk too if the file is ours."""
        self.values[key] = value
        if not self.durable:
            return None
        if self._gathered is not None:
            kept: Deferred[None] = Deferred()
            self._gathered.append(kept)
            return kept
        return self._write()

    def gather(self) -> None:
        """
        Write what is updated from now on at once, when `settled` is called: a device
        that is opened for the first time has several things to say.
        """
        self._gathered = []

    def _write(self) -> Deferred[None]:
        data = encoded(self.values)
        copy = encoded(backup.copy_of(self.values))
        if copy == self._copy:
            written: Deferred[None] = self.lane.call(write_atomically, self.path, data)
        else:
            # The flag that there are reservations is there before they are, and goes
            # after them; of two files the one that says too much is never believed.
            first = bool(self.values.get(backup.GUARDED))
            self._copy = copy
            written = self.lane.call(self._write_both, data, copy, first)
        self._last = written
        return written

    def _write_both(self, data: bytes, copy: bytes, copy_first: bool) -> None:
        files = [(self.path, data), (backup.path_of(self.path), copy)]
        try:
            for path, content in reversed(files) if copy_first else files:
                write_atomically(path, content)
        except BaseException:
            # Whatever is there now, it is not what we think.
            self._copy = b""
            raise

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
        gathered, self._gathered = self._gathered, None
        if gathered:
            try:
                await self._write()
            except BaseException:
                self._last = None
                for one in gathered:
                    one.errback(Failure())
                    one.addErrback(lambda _: None)
                raise
            for one in gathered:
                one.callback(None)
        if self._last is not None:
            last, self._last = self._last, None
            await last

    def close(self) -> None:
        """Unlock it."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1
        self._record.close()


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
            lock = os.open(
                directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise ConfigurationError(
                f"state directory {self.path}: {error.strerror}; choose another with"
                " --state-dir"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            _log.warn(
                "device {key} is open in another process: this one gets an identity"
                " of its own, which is not kept",
                key=key,
            )
            return DeviceMemory(file, lane)
        if other and not file.exists():
            self._take_over(directory / other.replace("/", "_"), file, origin)
        try:
            values, copy = backup.load(file)
            if values and not file.exists():
                write_atomically(file, encoded(values))
            if values and copy != encoded(backup.copy_of(values)):
                # A crash came between the two files, or a person has edited one.
                copy = encoded(backup.copy_of(values))
                write_atomically(backup.path_of(file), copy)
        except (OSError, backup.DamagedError) as error:
            os.close(lock)
            raise ConfigurationError(f"{file}: {error}") from error
        return DeviceMemory(file, lane, lock, values, copy)

    @staticmethod
    def _take_over(base: Path, file: Path, origin: str) -> None:
        """
        Move another key's file to *file*, under that key's lock; or leave all as it is.
        The record beside it goes first: a crash between the two is made up for then.
        """
        before = base.with_name(f"{base.name}.json")
        if not before.exists() and not backup.path_of(before).exists():
            return
        lock = os.open(
            base.with_name(f"{base.name}.lock"),
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
            0o600,
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            values, _copy = backup.load(before)
            if values.get("origin") == origin:
                for suffix in (".record", backup.SUFFIX, ".json"):
                    one = before.with_suffix(suffix)
                    if one.exists():
                        one.replace(file.with_suffix(suffix))
        except (OSError, backup.DamagedError) as error:
            _log.warn("{file} is not taken over: {error}", file=before, error=error)
        finally:
            os.close(lock)
