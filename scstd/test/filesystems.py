# SPDX-License-Identifier: MIT
"""
File systems that are frozen, hang, are slow, full, read-only, or gone: real ones, on
loop devices and by FUSE, for `scstd.test.test_filesystems`.

A state is entered and left again while the service has files there.  Whatever happens
`FileSystem.clean` leaves nothing mounted and nothing frozen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import unittest
from pathlib import Path

from scstd.test.clients import EXTRA, find, need

SIZE = 24 << 20
"""Bytes of a file system."""


def run(*command: str | Path) -> str:
    """
    Run a program of administrators'; return what it says.
    """
    program = find(str(command[0]))
    assert program is not None, command
    done = subprocess.run(
        [program, *map(str, command[1:])],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    if done.returncode:
        raise OSError(f"{command}: {done.stderr}")
    return done.stdout.strip()


class FileSystem:
    """
    A state of a file system, in which it is not yet; *mount* is where it is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mount = directory / "mount"
        self.mount.mkdir()
        self.make()

    def make(self) -> None:
        """Mount it; here it is just a directory."""

    def enter(self) -> None:
        """Bring it into the state."""

    def leave(self) -> None:
        """Bring it out again, if there is a way back."""

    def clean(self) -> None:
        """Leave nothing behind."""


class Loop(FileSystem):
    """
    ext4 in a file, on a loop device.
    """

    options = "loop"

    def make(self) -> None:
        """Make and mount it."""
        if os.geteuid() != 0:
            raise unittest.SkipTest("only root may mount")
        need("mkfs.ext4", "losetup", "fsfreeze")
        image = self.disk() / "fs.img"
        image.write_bytes(b"")
        os.truncate(image, SIZE)
        run("mkfs.ext4", "-q", "-F", "-m", "0", image)
        try:
            run("mount", "-o", self.options, image, self.mount)
        except OSError as error:
            if os.environ.get("CI") == "true":
                raise
            raise unittest.SkipTest(f"no loop devices here: {error}") from error

    def disk(self) -> Path:
        """Return the directory of its file."""
        return self.directory

    def clean(self) -> None:
        """Unmount it, now or when nobody uses it any more."""
        self.leave()
        with contextlib.suppress(OSError):
            run("umount", "-l", self.mount)


class Frozen(Loop):
    """
    As for a snapshot: who writes waits, and the kernel lets nobody interrupt that.
    """

    def enter(self) -> None:
        """Freeze it."""
        run("fsfreeze", "-f", self.mount)

    def leave(self) -> None:
        """Thaw it."""
        with contextlib.suppress(OSError):
            run("fsfreeze", "-u", self.mount)


class Hung(FileSystem):
    """
    One of a server that does not answer any more.
    """

    pid = 0

    def make(self) -> None:
        """Have a server of one's own, and mount what it has."""
        need("sshfs", "fusermount3", "openssh-sftp-server")
        there, server = self.directory / "there", self.directory / "server"
        there.mkdir()
        server.write_text(
            f"#!/bin/sh\necho $$ > {self.directory}/pid\n"
            f"exec {EXTRA['openssh-sftp-server']}\n"
        )
        server.chmod(0o700)
        try:
            option = f"sshfs_sync,ssh_command={server}"
            run("sshfs", "-o", option, f"x:{there}", self.mount)
        except OSError as error:
            if os.environ.get("CI") == "true":
                raise
            raise unittest.SkipTest(f"no FUSE here: {error}") from error
        self.pid = int((self.directory / "pid").read_text())

    def enter(self) -> None:
        """Stop the server."""
        os.kill(self.pid, signal.SIGSTOP)

    def leave(self) -> None:
        """Let it go on."""
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)

    def clean(self) -> None:
        """Unmount it; its server ends then."""
        self.leave()
        with contextlib.suppress(OSError):
            run("fusermount3", "-u", "-z", self.mount)


def fill(file: Path) -> None:
    """
    Write to a new file until there is no room for another byte.
    """
    piece = bytes(1 << 16)
    fd = os.open(file, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        while piece:
            try:
                os.write(fd, piece)
            except OSError:
                piece = piece[: len(piece) // 2]
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


class Full(Loop):
    """
    Without room for another block.
    """

    def enter(self) -> None:
        """Fill it."""
        fill(self.mount / "filler")

    def leave(self) -> None:
        """Make room."""
        (self.mount / "filler").unlink(missing_ok=True)


class ReadOnly(Loop):
    """
    As after an error that the kernel has found in it.
    """

    options = "loop,errors=remount-ro"

    def enter(self) -> None:
        """Have the kernel find one."""
        device = Path(run("findmnt", "-n", "-o", "SOURCE", self.mount)).name
        os.sync()
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("tried")


class Unmounted(Loop):
    """
    Unmounted by force: it lives on for who has a file open.
    """

    def enter(self) -> None:
        """Unmount it."""
        with contextlib.suppress(OSError):
            run("umount", "-l", self.mount)


class Deleted(FileSystem):
    """
    A good one, in which somebody removes the file.
    """

    def enter(self) -> None:
        """Remove it."""
        (self.mount / "disk.img").unlink(missing_ok=True)


class Cut(FileSystem):
    """
    A good one, in which somebody cuts the file off.
    """

    def enter(self) -> None:
        """Cut it."""
        os.truncate(self.mount / "disk.img", 65536)


class Lost(Loop):
    """
    One whose disk is gone: all that is not in memory fails.
    """

    def disk(self) -> Path:
        """Return a directory that can be filled."""
        disk = self.directory / "disk"
        disk.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={SIZE + (1 << 20)}", "tmpfs", disk)
        return disk

    def enter(self) -> None:
        """Have nothing behind it, and no room for it."""
        os.truncate(self.directory / "disk" / "fs.img", 0)
        fill(self.directory / "disk" / "filler")

    def clean(self) -> None:
        """Unmount both."""
        super().clean()
        with contextlib.suppress(OSError):
            run("umount", "-l", self.directory / "disk")
