# SPDX-License-Identifier: MIT
"""
Opening the file, or the block device, of a disk: what is refused, and what has to be
known of it.

Every call here may wait for as long as a server or a disk does not answer, so all of
it is done in a thread, and what was found out is kept: the size, what can be
deallocated, whether its file system can make a caller wait.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from scstd import allocation, filesystems
from scstd.attributes import ConfigurationError, check_blocks
from scstd.handlers.identity import identity_of


@attrs.frozen
class OpenFile:
    """
    An open file and what was found out about it.

    *seeks* is a second descriptor with a position of its own, for a search in the file
    may take its time and holds the position; *size* is in bytes; *prompt* says that
    reads and writes never wait (`scstd.filesystems`), *identity* tells it from every
    other file (`scstd.handlers.identity`).
    """

    fd: int
    seeks: int
    size: int
    is_file: bool
    prompt: bool
    can: allocation.DiscardLimits
    identity: str | None = None

    @classmethod
    def of(cls, fd: int) -> OpenFile:
        """
        Look at a file; *fd* is closed with what is returned.
        """
        return cls(
            fd,
            _again(fd),
            size_of(fd),
            stat.S_ISREG(os.fstat(fd).st_mode),
            filesystems.prompt(fd),
            allocation.limits(fd),
            identity_of(fd),
        )

    def close(self) -> None:
        """
        Close it.
        """
        os.close(self.seeks)
        os.close(self.fd)


def size_of(fd: int) -> int:
    """
    Return the bytes of an open file or block device.
    """
    return os.lseek(fd, 0, os.SEEK_END)


def _again(fd: int) -> int:
    """
    Return another descriptor of an open file, with a position of its own if it can.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


def open_file(parameters: Mapping[str, Any], make: bool = True) -> OpenFile:
    """
    Open the file that parameters of a device name, or *make* it.

    :raises ConfigurationError: it cannot be used as configured.
    """
    path = Path(parameters["filename"])
    read_only = parameters["read_only"]
    wanted = parameters["size"]
    if wanted is not None:
        # Before anything is made.
        check_blocks(wanted, parameters["blocksize"])
    try:
        fd, made = _open(path, read_only=read_only, create=make and wanted is not None)
    except OSError as error:
        raise ConfigurationError(_explain(path, error, make)) from error
    try:
        _prepare(fd, path, read_only, wanted)
        if made:
            _keep_name(path)
        elif wanted is not None and not read_only and not _is_device_name(path):
            # A process that was killed may have made it, and no more.
            with suppress(PermissionError):
                _keep_name(path)
        see_blocks(str(path), size_of(fd), parameters["blocksize"])
        return OpenFile.of(fd)
    except OSError as error:
        os.close(fd)
        raise ConfigurationError(_explain(path, error)) from error
    except ConfigurationError:
        os.close(fd)
        raise


def see_blocks(path: str, size: int, block_size: int) -> None:
    """
    See that *size* bytes are whole blocks.

    :raises ConfigurationError: there are none, or the last one is not whole: what it
        has would be cut off.
    """
    if size < block_size:
        raise ConfigurationError(
            f"{path} has {size} bytes: not one block of {block_size};"
            " give it a size to make it larger"
        )
    if size % block_size:
        raise ConfigurationError(
            f"{path} has {size} bytes: the last {size % block_size} are no whole block"
            f" of {block_size} and would be cut off; take a smaller blocksize,"
            " or make the file larger"
        )


def _explain(path: Path, error: OSError, make: bool = False) -> str:
    if error.errno in {errno.EWOULDBLOCK, errno.EACCES, errno.EBUSY} and (
        error.filename is None
    ):
        return f"{path} is in use by another device or program"
    if error.errno == errno.ENOENT:
        if not path.parent.exists():
            return f"{path}: there is no directory {path.parent}"
        makes = make and not _is_device_name(path)
        made = "; with a size it would be made" if makes else ""
        return f"{path} does not exist{made}"
    return f"{path}: {error.strerror or error}"


def _is_device_name(path: Path) -> bool:
    """
    Say whether a name is one of a device: a file of that name would be in memory, and
    hide the device when it comes.
    """
    where = path.absolute()
    return where.is_relative_to("/dev") and not where.is_relative_to("/dev/shm")  # noqa: S108


def _open(path: Path, *, read_only: bool, create: bool) -> tuple[int, bool]:
    """
    Return the open file, and whether it was made.
    """
    flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    made = False
    try:
        if not read_only and stat.S_ISBLK(path.stat().st_mode):
            # Refused while it is mounted, or part of something else.
            flags |= os.O_EXCL
    except FileNotFoundError:
        made = create and not read_only and not _is_device_name(path)
        flags |= os.O_CREAT if made else 0
    try:
        # Reading must not write: a new time of access waits for the journal.
        return os.open(path, flags | getattr(os, "O_NOATIME", 0), 0o600), made
    except PermissionError:
        # Only its owner, and root, may ask for that.
        return os.open(path, flags, 0o600), made


def _keep_name(path: Path) -> None:
    """
    Have a new file still be there after a loss of power.
    """
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    except OSError as error:
        # Some file systems have names durable, or do not let that be asked for.
        if error.errno not in allocation.UNSUPPORTED:
            raise
    finally:
        os.close(directory)


def _see_grows(path: Path, size: int, fixed: bool) -> None:
    if fixed:
        raise ConfigurationError(f"{path} has {size} bytes and cannot grow")


def check_file(parameters: Mapping[str, Any], *, make: bool = True) -> None:
    """
    See what `open_file` would find, but for who has the file locked: nothing is made,
    written or locked.  *make* as there.

    :raises ConfigurationError: it cannot be used as configured.
    """
    path = Path(parameters["filename"])
    read_only = parameters["read_only"]
    wanted = parameters["size"]
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if wanted is None or read_only or _is_device_name(path) or not make:
            raise ConfigurationError(_explain(path, error, make)) from error
        _see_can_be_made(path, error)
        see_blocks(str(path), wanted, parameters["blocksize"])
        return
    except OSError as error:
        raise ConfigurationError(_explain(path, error, make)) from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise ConfigurationError(f"{path} is neither a file nor a block device")
    try:
        _see_allowed(path, os.R_OK if read_only else os.R_OK | os.W_OK)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            size = size_of(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigurationError(_explain(path, error, make)) from error
    if wanted is not None and wanted > size:
        _see_grows(path, size, read_only or stat.S_ISBLK(mode))
        size = wanted
    see_blocks(str(path), size, parameters["blocksize"])


def _see_can_be_made(path: Path, missing: OSError) -> None:
    if not path.parent.is_dir():
        raise ConfigurationError(_explain(path, missing)) from missing
    try:
        _see_allowed(path.parent, os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigurationError(_explain(path, error)) from error


def _see_allowed(path: Path, mode: int) -> None:
    """
    :raises OSError: this user may not, or the file system is read-only.
    """
    if os.access(path, mode):
        return
    full = os.statvfs(path)
    code = errno.EROFS if full.f_flag & os.ST_RDONLY else errno.EACCES
    raise OSError(code, os.strerror(code), str(path))


def _prepare(fd: int, path: Path, read_only: bool, wanted: int | None) -> None:
    """
    Lock the file, see that it is one, and give it its size.
    """
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise ConfigurationError(f"{path} is neither a file nor a block device")
    fcntl.flock(fd, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    size = size_of(fd)
    # A file that is larger, because it was made so, is as it is: none is cut off.
    if wanted is None or wanted <= size:
        return
    _see_grows(path, size, read_only or stat.S_ISBLK(mode))
    os.ftruncate(fd, wanted)
    os.fsync(fd)
