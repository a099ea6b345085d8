# SPDX-License-Identifier: MIT
"""
The state directory: what devices remember over restarts.

One small JSON file a device, replaced atomically: a crash leaves the old one or the
new. A device's file is locked while the device is open.  A second process that opens a
device of the same name is another device: it gets an identity of its own, which is not
kept, so that two disks never have one name.

What is in a file, and how it is changed, is in `scstd.management.state.device_memory`.

A file may still be damaged, by a medium or by a person.  Beside it is a backup
(`scstd.management.state.backup`) with everything but the reservations, and whether
there were any: an identity is not lost with the file, and a stale reservation is never
believed.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import Logger

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.management.state import backup
from scstd.management.state.device_memory import DeviceMemory, encoded
from scstd.management.state.durable import (
    SUFFIX,
    DamagedError,
    beside,
    make_directory,
    open_lock,
    path_of,
    sweep,
    sync_directory,
    write_atomically,
)
from scstd.management.state.record_file import RecordFile

_log = Logger()


@attrs.frozen
class StateDirectory:
    """
    A directory of devices' files, made when it is first needed.
    """

    path: Path
    _sure: list[bool] = attrs.field(factory=list, eq=False, repr=False)
    """Not empty when the names of the directories are known to be durable."""

    def device(
        self,
        key: str,
        lane: Lane,
        *,
        other: str = "",
        origin: str = "",
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
            make_directory(directory)
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
            sweep(file, path_of(file))
            differs = not self._synced(file)
            values, copy = backup.load(file)
        except (OSError, DamagedError) as error:
            os.close(lock)
            raise ConfigurationError(f"{file}: {error}") from error
        return DeviceMemory(
            file,
            lane,
            lock,
            values,
            self._mended(file, values, copy),
            differs and bool(values),
            _record(file),
        )

    def _synced(self, file: Path) -> bool:
        """
        Make durable what is going to be read: a process that was killed may have left
        names that are not, its own or those of the directories.
        """
        wanted: list[Path] = []
        if not self._sure:
            wanted = [file.parent, self.path, self.path.parent]
        elif file.exists() or path_of(file).exists():
            wanted = [file.parent]
        try:
            for one in wanted:
                with suppress(PermissionError):
                    sync_directory(one)
        except OSError as error:
            _log.warn("{file}: {error}", file=str(file.parent), error=error)
            return False
        self._sure[:] = [True]
        return True

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
                for name in beside(file.parent, f"{before.stem}.aside-"):
                    one = file.with_name(name)
                    one.replace(file.with_name(f"{file.stem}{one.suffix}"))
                sync_directory(file.parent)
        except (OSError, DamagedError) as error:
            _log.warn("{file} is not taken over: {error}", file=before, error=error)
        finally:
            os.close(lock)


def _record(file: Path) -> bytes:
    """
    Return the record beside a device's file; nothing if nobody can read it.
    """
    record = RecordFile(file.with_suffix(".record"))
    try:
        return record.read()
    except OSError as error:
        _log.error(
            "{file}: {error}: no atomic write is finished from it",
            file=str(record.path),
            error=error,
        )
        return b""
