# SPDX-License-Identifier: MIT
"""
The device handler vcdrom: a CD/DVD drive whose discs are ISO images.

The disc is a file, opened for reading alone and locked against writers (flock) as long
as it is in the drive.  Taking it out closes the file, so that it may be replaced;
putting it in opens it again.  A change of discs happens in one moment of the reactor: a
read belongs to the disc that was in when it was called, and the file of that disc stays
open until the last such read is over.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from scstd import filesystems
from scstd.attributes import Attribute, ConfigurationError, Effect, Text
from scstd.blocking import Lane
from scstd.handlers.openfile import check_file
from scstd.interfaces import (
    Buffer,
    IBackstore,
    IGivenBuffers,
    IOpticalDrive,
    IReadOnly,
    IRemovableMedium,
    Result,
)
from scstd.pagecache import PageCache

_log = Logger()

BLOCK = 2048
"""Bytes in a block of a CD or DVD."""

MOST_BLOCKS = (1 << 24) - 0x030000
"""Blocks that the sector numbers of a DVD count (ECMA-267): 34 GB."""

PARAMETERS: Sequence[Attribute[Any]] = (
    Attribute(
        "filename",
        Text(what="a file, or nothing for an empty drive,"),
        "",
        "The ISO image that is in the drive.",
        effect=Effect.LIVE,
    ),
)

_READERS = 4


class Disc:
    """
    An image, open: its file stays so until it is retired and no read is under way.

    Its last block is filled up with zeros where the file is no multiple of 2048 bytes:
    a disc has whole blocks only, and burning the file does the same.
    """

    def __init__(self, path: str, tray: Lane) -> None:
        """
        Open the image; this may block.  What else may is done by *tray*.

        :raises ConfigurationError: it cannot be a disc.
        """
        try:
            # A FIFO would wait for its writer.
            self._fd = _open(path)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error
        try:
            self._length = self._check(path)
        except BaseException:
            os.close(self._fd)
            raise
        self.size = -(-self._length // BLOCK) * BLOCK
        self._cache = PageCache(self._fd, prompt=filesystems.prompt(self._fd))
        self._tray = tray
        self._reads = 0
        self._retired = False

    def _check(self, path: str) -> int:
        """
        See that the file is an image that nobody writes to; return its length.
        """
        mode = os.fstat(self._fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise ConfigurationError(f"{path} is neither a file nor a block device")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(
                f"{path} is in use by a device or program that writes to it"
            ) from error
        length = os.lseek(self._fd, 0, os.SEEK_END)
        if not length:
            raise ConfigurationError(f"{path} is empty: that is no disc")
        if length > MOST_BLOCKS * BLOCK:
            raise ConfigurationError(
                f"{path} has {length} bytes: more than {MOST_BLOCKS * BLOCK} fit no DVD"
            )
        if length % BLOCK:
            _log.info(
                "{path}: its last block has {rest} bytes, and is filled up with zeros",
                path=path,
                rest=length % BLOCK,
            )
        self._warn(path, length)
        return length

    def _warn(self, path: str, length: int) -> None:
        """
        Warn of an image that is shorter than it says itself (ISO 9660 section 8.4).
        """
        descriptor = os.pread(self._fd, BLOCK, 16 * BLOCK)
        if len(descriptor) < BLOCK or descriptor[:6] != b"\x01CD001":
            return
        blocks = int.from_bytes(descriptor[80:84], "little")
        size = int.from_bytes(descriptor[128:130], "little")
        if blocks * size > length:
            _log.warn(
                "{path} is cut off: it has {length} bytes of {whole}",
                path=path,
                length=length,
                whole=blocks * size,
            )

    def read(self, lane: Lane, offset: int, length: int) -> Result[Buffer]:
        """
        Return what is on the disc: from the page cache at once, else from a thread.
        """
        real = min(length, self._length - offset)
        data = self._cache.read(offset, real)
        if data is not None:
            return data if real == length else bytes(data).ljust(length, b"\0")
        self._reads += 1
        found: Deferred[Buffer] = lane.call(self._read, offset, real, length)
        return found.addBoth(self._over)

    def _read(self, offset: int, real: int, length: int) -> bytes:
        pieces = []
        while real:
            data = os.pread(self._fd, real, offset)
            if not data:
                raise OSError(errno.EIO, "the image has become shorter")
            pieces.append(data)
            offset += len(data)
            real -= len(data)
        return b"".join(pieces).ljust(length, b"\0")

    def _over(self, result: Any) -> Any:
        self._reads -= 1
        self._close()
        return result

    def retire(self) -> None:
        """
        Close the file after the reads that are under way.
        """
        self._retired = True
        self._close()

    def _close(self) -> None:
        if self._retired and not self._reads:
            self._tray.call(os.close, self._fd).addErrback(_not_closed)


def _open(path: str) -> int:
    # A FIFO would wait for its writer.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        # Reading must not write: a new time of access waits for the journal.
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        # Only its owner, and root, may ask for that.
        return os.open(path, flags)


def _not_closed(failure: Failure) -> None:
    _log.warn("a disc was not closed: {error}", error=failure.value)


@implementer(IBackstore, IGivenBuffers, IReadOnly, IOpticalDrive, IRemovableMedium)
class Drive:
    """
    The drive, empty to begin with.
    """

    block_size = BLOCK

    def __init__(self, reactor: Any, name: str) -> None:
        self.size = 0
        self.medium = ""
        self._disc: Disc | None = None
        self._changes = 0
        self._reads = Lane(reactor, f"{name} read", _READERS)
        self._tray = Lane(reactor, f"{name} tray")
        self._call: Callable[[], None] = lambda: None

    # The disc.

    def read(self, offset: int, length: int) -> Result[Buffer]:
        """Read from the disc that is in."""
        return self._inside().read(self._reads, offset, length)

    def _inside(self) -> Disc:
        """
        Return the disc that is in.
        """
        if self._disc is None:
            raise OSError(errno.ENOMEDIUM, os.strerror(errno.ENOMEDIUM))
        return self._disc

    def write(self, offset: int, data: Buffer, fua: bool) -> None:  # noqa: ARG002
        """Refuse."""
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def flush(self) -> None:
        """Do nothing."""

    # Changing it.

    def put(self, disc: Disc | None) -> None:
        """
        Put a disc in, or none, in place of the one that is in.
        """
        old, self._disc = self._disc, disc
        self.size = 0 if disc is None else disc.size
        if old is not None:
            old.retire()
        if old is not None or disc is not None:
            self._call()

    def change(self, medium: str) -> Result[None]:
        """Open another image, then put it in."""
        self._changes += 1
        if medium:
            return Deferred.fromCoroutine(self._change(medium, self._changes))
        self.medium = ""
        self.put(None)
        return None

    async def _change(self, medium: str, number: int) -> None:
        disc = await self._tray.call(Disc, medium, self._tray)
        if number != self._changes:
            # What was wanted last is what is in at the end.
            disc.retire()
            raise ConfigurationError(f"{medium}: another change came after this one")
        self.medium = medium
        self.put(disc)

    def eject(self) -> None:
        """Take the disc out."""
        self.put(None)

    def load(self) -> Result[None]:
        """Put the disc in again."""
        if self._disc is not None:
            return None
        if not self.medium:
            raise OSError(errno.ENOMEDIUM, "no image is configured")
        return Deferred.fromCoroutine(self._load(self.medium))

    async def _load(self, medium: str) -> None:
        try:
            disc = await self._tray.call(Disc, medium, self._tray)
        except ConfigurationError as error:
            raise OSError(errno.ENOMEDIUM, str(error)) from error
        if self._disc is None and self.medium == medium:
            self.put(disc)
        else:
            # Something else has happened meanwhile.
            disc.retire()

    def on_medium(self, call: Callable[[], None]) -> None:
        """Note who is to be told."""
        self._call = call

    def close(self) -> Deferred[None]:
        """Wait for the threads, then close the file."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._call = lambda: None
        self._changes += 1
        # Behind the changes that are under way.
        await self._tray.call(bool)
        self.put(None)
        for lane in (self._reads, self._tray):
            await lane.close()

    async def open(self, medium: str) -> IBackstore:
        """
        Put in what is in the drive at first.

        :raises ConfigurationError: it cannot be a disc.
        """
        try:
            await self._change(medium, self._changes)
        except BaseException:
            await self._close()
            raise
        return IBackstore(self)


def check(device: str, parameters: Mapping[str, Any]) -> None:
    """
    See what `open` would find, as far as the image is a file with something in it.

    :raises ConfigurationError: it is not.
    """
    del device
    if parameters["filename"]:
        image = {"read_only": True, "size": None, "blocksize": 1}
        check_file({**image, "filename": parameters["filename"]})


def open(  # noqa: A001 - the name of the interface
    reactor: Any, device: str, parameters: Mapping[str, Any]
) -> Result[IBackstore]:
    """
    Make a drive, with the image in it if there is one.

    Fails with `ConfigurationError` if the image cannot be a disc.
    """
    drive = Drive(reactor, device)
    medium = parameters["filename"]
    return Deferred.fromCoroutine(drive.open(medium)) if medium else IBackstore(drive)
