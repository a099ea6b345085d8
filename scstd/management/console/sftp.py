# SPDX-License-Identifier: MIT
"""
The tree over SFTP: the console's SSH server, for ``sshfs`` and ``sftp``.

Directories, links and files are where SCST has them below ``/sys/kernel/scst_tgt``, and
behave as there.  Who has a key for it has the whole process, and so reads secrets, too:
those files are their owner's alone, as in SCST.

A write is carried out when it comes, once, and is answered when it was: sshfs has
``close`` answered before the server is asked, so that an error is told
by a write or not at all.  A text that is too long for one write comes in pieces, which
clients cut at multiples of `PAGE`: such a piece that does not end a line waits for the
rest, or for the end of the file.

What SFTP's version 3 can say of an error is little (`_STATUS`; sshfs shows the rest as
EPERM): why something was refused is in the log, and in the file ``last_error`` at the
top of the tree, its number in ``last_sysfs_mgmt_res``.  The protocol is
draft-ietf-secsh-filexfer-02 (SSH File Transfer Protocol), which `twisted.conch` speaks.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import starmap
from types import SimpleNamespace
from typing import Any

import attrs
from twisted.conch.interfaces import ISFTPFile, ISFTPServer
from twisted.conch.ls import lsLine
from twisted.conch.ssh import filetransfer as fx
from twisted.conch.ssh.common import getNS
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from scstd.attributes import ConfigurationError
from scstd.management.console.sftp_packets import Packets
from scstd.management.errors import TreeError, number_of
from scstd.management.tree.looking import DIRECTORY, LINK, Look
from scstd.management.tree.tree import Tree
from scstd.results import settled
from scstd.scsi.mutex import Mutex

_log = Logger()

PAGE = 4096
"""Bytes: what clients cut longer texts into is a multiple of this."""

LONGEST = 1 << 20
"""Bytes of the longest text that is taken."""

_STATUS = {
    errno.ENOENT: fx.FX_NO_SUCH_FILE,
    errno.ENOTDIR: fx.FX_NO_SUCH_FILE,
    errno.EACCES: fx.FX_PERMISSION_DENIED,
    errno.EPERM: fx.FX_PERMISSION_DENIED,
    errno.EROFS: fx.FX_PERMISSION_DENIED,
    errno.ENOTSUP: fx.FX_OP_UNSUPPORTED,
    errno.ENOSYS: fx.FX_OP_UNSUPPORTED,
}
"""Every other errno (EINVAL, EBUSY, EEXIST, ...) is FX_FAILURE."""


def status_of(failure: Failure) -> Failure:
    """
    Return a failure that says in SFTP's words what another one says.
    """
    error = failure.value
    assert error is not None
    if isinstance(error, fx.SFTPError | EOFError):
        return failure
    if not isinstance(error, ConfigurationError | OSError):
        _log.failure("the tree failed", failure=failure)
    code = _STATUS.get(number_of(error), fx.FX_FAILURE)
    text = str(error).encode("ascii", "backslashreplace").decode("ascii")
    return Failure(fx.SFTPError(code, text))


def _told(call: Callable[..., Any], *given: Any) -> Deferred[Any]:
    return maybeDeferred(call, *given).addErrback(status_of)


@implementer(ISFTPServer)
@attrs.define(eq=False)
class TreeServer:
    """
    The tree as conch's SFTP server asks for it.

    Paths are bytes in UTF-8; relative ones begin at the top.
    """

    tree: Tree
    avatar: Any = None
    """Who asks: whoever has the console may do all."""

    async def _path(self, said: bytes) -> str:
        """
        Return the path in the tree, without links but perhaps at its end.

        :raises TreeError: the directories of it are not there.
        """
        try:
            asked = said.decode("utf-8")
        except UnicodeDecodeError:
            raise TreeError(errno.ENOENT, f"{said!r} is not UTF-8") from None
        where = ""
        parts = [part for part in asked.split("/") if part not in {"", "."}]
        for at, part in enumerate(parts):
            if part == "..":
                where = posixpath.dirname(where)
                continue
            where = f"{where}/{part}" if where else part
            if at + 1 < len(parts):
                where = await self._followed(where)
        return where

    async def _followed(self, path: str) -> str:
        found = await settled(self.tree.look(path, follow=False))
        return found.leads if found.kind == LINK else path

    # Looking.

    def gotVersion(self, _version: int, _extensions: Any) -> dict[bytes, bytes]:
        """Return the extensions there are: none."""
        return {}

    def realPath(self, path: bytes) -> Any:
        """Return the path without links; the last part need not be there."""

        async def found() -> bytes:
            where = await self._path(path)
            with suppress(TreeError):
                where = await self._followed(where)
            return f"/{where}".encode()

        return _told(found)

    def readLink(self, path: bytes) -> Any:
        """Return where a link leads, from the directory it is in, as in sysfs."""

        async def found() -> bytes:
            where = await self._path(path)
            link = await settled(self.tree.look(where, follow=False))
            if link.kind != LINK:
                raise TreeError(errno.EINVAL, f"{where} is no link")
            return posixpath.relpath(
                f"/{link.leads}", f"/{posixpath.dirname(where)}"
            ).encode()

        return _told(found)

    def getAttrs(self, path: bytes, followLinks: int) -> Any:  # noqa: N803
        """Return size, permissions, ..."""

        async def found() -> dict[str, int]:
            return await self.stat(await self._path(path), follow=bool(followLinks))

        return _told(found)

    async def stat(self, path: str, *, follow: bool = True) -> dict[str, int]:
        """
        Return the attributes of what is at *path*.
        """
        return self.attributes(await settled(self.tree.look(path, follow=follow)))

    def attributes(self, found: Look) -> dict[str, int]:
        """
        Return the attributes of an entry; the size of a file is that of its text now.

        It belongs to who runs the service, and was changed just now: what is cached of
        it somewhere is old.
        """
        now = int(self.tree.system.date())
        if found.kind == DIRECTORY:
            mode = stat.S_IFDIR | 0o755
        elif found.kind == LINK:
            mode = stat.S_IFLNK | 0o777
        else:
            mode = stat.S_IFREG | _permissions(found)
        return {
            "size": found.size,
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "permissions": mode,
            "atime": now,
            "mtime": now,
        }

    def openDirectory(self, path: bytes) -> Any:
        """Return the entries of a directory, each made when it is asked for."""

        async def found() -> Listing:
            entries = await settled(self.tree.looks(await self._path(path)))
            return Listing(starmap(self._row, entries))

        return _told(found)

    def _row(self, name: str, found: Look) -> Row:
        given = self.attributes(found)
        line = lsLine(
            name,
            SimpleNamespace(
                st_mode=given["permissions"],
                st_nlink=1,
                st_uid=given["uid"],
                st_gid=given["gid"],
                st_size=given["size"],
                st_mtime=given["mtime"],
            ),
        )
        return name.encode(), line.encode(), given

    # Files.

    def openFile(self, filename: bytes, flags: int, _attrs: Any) -> Any:
        """Return an open file, if it is there and can be used so."""

        async def found() -> OpenTreeFile:
            path = await self._path(filename)
            entry = await settled(self.tree.look(path))
            if entry.kind == DIRECTORY:
                raise TreeError(errno.EISDIR, f"{path} is a directory")
            if flags & fx.FXF_CREAT and flags & fx.FXF_EXCL:
                raise TreeError(errno.EEXIST, f"{path} is there already")
            if flags & fx.FXF_READ and not entry.readable:
                raise TreeError(errno.EACCES, f"{path} can only be written")
            if flags & fx.FXF_WRITE and not entry.writable:
                raise TreeError(errno.EACCES, f"{path} can only be read")
            return OpenTreeFile(self, path)

        return _told(found)

    def setAttrs(self, path: bytes, attrs: Any) -> Any:
        """Take a size (files are truncated before they are written) and times."""

        async def set_() -> None:
            await settled(self.tree.look(await self._path(path)))
            settable(attrs)

        return _told(set_)

    # What only ``mgmt`` files do.

    def _refused(self, *_given: Any) -> Any:
        """Refuse to make, remove or rename."""
        why = "the tree is changed through its files: see mgmt"
        return status_of(Failure(TreeError(errno.EPERM, why)))

    removeFile = renameFile = makeDirectory = removeDirectory = makeLink = _refused

    def extendedRequest(self, name: bytes, _data: bytes) -> Any:
        """Refuse."""
        raise NotImplementedError(f"there is no extension {name!r}")


def settable(given: dict[str, Any]) -> None:
    """
    Say whether attributes can be set: nothing comes of those that can.

    :raises TreeError: they are owner or permissions (EPERM).
    """
    if given.keys() & {"uid", "gid", "permissions"}:
        raise TreeError(errno.EPERM, "owner and permissions are what they are")


def _permissions(file: Look) -> int:
    read = 0o400 if file.private else 0o444
    return (read if file.readable else 0) | (0o200 if file.writable else 0)


Row = tuple[bytes, bytes, dict[str, int]]
"""Of a listing: name, line of ``ls -l``, attributes."""


@attrs.define(eq=False)
class Listing:
    """
    A directory that is read: conch takes 250 rows at a time.
    """

    rows: Iterator[Row]

    def __iter__(self) -> Iterator[Row]:
        """Return the rows."""
        return self.rows

    def close(self) -> None:
        """Nothing is held."""


@implementer(ISFTPFile)
@attrs.define(eq=False)
class OpenTreeFile:
    """
    A file that is open.  What is asked of it is done in the order of asking.
    """

    server: TreeServer
    path: str
    _text: bytes | None = None
    _pieces: bytes = b""
    _dropped: bool = False
    _turns: Mutex = attrs.field(factory=Mutex)

    def readChunk(self, offset: int, length: int) -> Any:
        """Return bytes of the text as it was when the first of it was read."""
        return self._turns.run(_told, self._read, offset, length)

    async def _read(self, offset: int, length: int) -> bytes:
        if offset == 0 or self._text is None:
            text = await settled(self.server.tree.read(self.path, bare=True))
            self._text = text.encode()
        piece = self._text[offset : offset + length]
        if not piece:
            raise EOFError("nothing is left")
        return piece

    def writeChunk(self, offset: int, data: bytes) -> Any:
        """Do what is written; fire when it was done."""
        return self._turns.run(_told, self._write, offset, data)

    def _write(self, offset: int, data: bytes) -> Any:
        # In sysfs a write means the same wherever in the file it is, but the pieces of
        # one text follow each other.
        before = self._pieces
        self._pieces = b""
        if before and offset % PAGE:
            raise TreeError(errno.EINVAL, f"{self.path}: pieces out of order")
        whole = before + data
        if len(whole) > LONGEST:
            raise TreeError(errno.EFBIG, f"{self.path}: more than {LONGEST} bytes")
        if data and len(data) % PAGE == 0 and not data.endswith(b"\n"):
            self._pieces = whole
            return None
        return self._carry_out(whole)

    def _carry_out(self, whole: bytes) -> Any:
        self._text = None
        try:
            text = whole.decode("utf-8")
        except UnicodeDecodeError:
            raise TreeError(errno.EINVAL, f"{self.path}: expected UTF-8") from None
        return self.server.tree.write(self.path, text).addErrback(self._not_done)

    def _not_done(self, failure: Failure) -> Failure:
        _log.info(
            "{path}: refused: {why}", path=self.path, why=failure.getErrorMessage()
        )
        return failure

    def close(self) -> Any:
        """Do what waited for the rest of its text; fire when all is done."""
        return self._turns.run(_told, self._close)

    def _close(self) -> Any:
        whole, self._pieces = self._pieces, b""
        return self._carry_out(whole) if whole and not self._dropped else None

    def drop(self) -> None:
        """
        Forget the beginning of a text whose rest cannot come any more.
        """
        self._dropped = True

    def getAttrs(self) -> Any:
        """Return size, permissions, ..."""
        return _told(self.server.stat, self.path)

    def setAttrs(self, attrs: Any) -> Any:
        """Take a size and times."""
        return _told(settable, attrs)


class SFTPProtocol(Packets):
    """
    Conch's server, for a mount that lives long and may end at any time.
    """

    def packet_CLOSE(self, data: bytes) -> None:
        """Close a file or a directory: it is closed also if that fails."""
        request, (handle, _rest) = data[:4], getNS(data[4:])
        file = self.openFiles.get(handle)
        if file is None:
            super().packet_CLOSE(data)
            return
        done = file.close().addBoth(self._closed, handle)
        done.addCallback(self._cbStatus, request, b"file closed")
        done.addErrback(self._ebStatus, request)

    def _closed(self, result: Any, handle: bytes) -> Any:
        self.openFiles.pop(handle, None)
        return result

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Close all; a text of which only a part came is not carried out."""
        for file in self.openFiles.values():
            file.drop()
        super().connectionLost(reason)


def subsystem(tree: Tree) -> Callable[..., SFTPProtocol]:
    """
    Return what makes the protocol of SSH's subsystem ``sftp``.
    """
    server = TreeServer(tree)

    def made(data: bytes, avatar: Any) -> SFTPProtocol:  # noqa: ARG001 - conch's words
        return SFTPProtocol(data, server)

    return made
