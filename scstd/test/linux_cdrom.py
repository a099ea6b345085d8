# SPDX-License-Identifier: MIT
"""
Linux's own CD-ROM driver at our drive: ``make linux-cdrom``.

A Linux kernel runs under QEMU, with nothing but busybox; the commands of its driver
(sr) go to the target as they are (scsi-generic).  It mounts a disc, which locks the
drive; the disc is changed from the console meanwhile.  The kernel and busybox are
downloaded with apt, not installed.  It takes about a minute.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scstd.test.clients import need
from scstd.test.linux import Guest, System, expect, run
from scstd.test.serving import Server


def console(directory: Path, port: str, line: str) -> str:
    """
    Say a line at the target's console; return what it answers, also a little later.
    """
    process = subprocess.Popen(
        [
            *("ssh", "-tt", "-p", port, "-i", "key", "-o", "BatchMode=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
            *("-o", "UserKnownHostsFile=/dev/null", "anybody@127.0.0.1"),
        ],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    waiting = [f"{one}\r".encode() for one in (line, "1", "2")] + [b"\x04"]
    while piece := os.read(process.stdout.fileno(), 65536):
        said += piece
        # A line is said when there is a prompt for it.
        if waiting and said.count(b">>> ") > 4 - len(waiting):
            process.stdin.write(waiting.pop(0))
            process.stdin.flush()
    process.wait(20)
    print(f">>> {line}", flush=True)
    return said.decode(errors="replace")


def main() -> int:
    """
    Do it.
    """
    need("qemu-system-x86_64", "qemu-block-extra", "bsdtar", "xorriso", "ssh")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        linux = System(
            directory,
            (),
            "virtio_pci cdrom sr_mod isofs virtio_scsi",
            start="echo 200 > /sys/block/sr0/events_poll_msecs",
        )
        big = bytes(range(256)) * 40000
        for disc in ("one", "two"):
            (directory / disc).mkdir()
            (directory / disc / "name").write_text(f"disc {disc}\n")
            (directory / disc / "big").write_bytes(big)
            image = str(directory / f"{disc}.iso")
            run("xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", image, disc,
                cwd=directory)  # fmt: skip
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key", cwd=directory)
        with Server(
            *("--device", f"cd=vcdrom:filename={directory}/one.iso"),
            *("--manhole", "127.0.0.1:0", "--manhole-keys", "key.pub"),
            directory=name,
            wait_for="the console listens on",
        ) as server:
            port = server.lines[-1].rpartition(":")[2].strip()

            with Guest(
                linux,
                *("-device", "virtio-scsi-pci", "-device", "scsi-generic,drive=cd"),
                *("-drive", f"file={server.url},format=raw,if=none,id=cd,readonly=on"),
            ) as guest:
                play(
                    guest,
                    partial(console, directory, port),
                    directory,
                    hashlib.md5(big).hexdigest(),
                )
    print("Linux and the drive understand each other.")
    return 0


def play(guest: Guest, say: Callable[[str], str], directory: Path, digest: str) -> None:
    """
    Mount, lock, change, empty and fill.
    """
    mount = "mount -t iso9660 -o ro /dev/sr0 /mnt && cat /mnt/name"
    change = "set('devices/cd', 'filename', '{}')".format

    expect("disc one", guest.shell(mount))
    expect(digest, guest.shell("md5sum /mnt/big"))
    said = say(change(directory / "two.iso"))
    expect("removal is prevented by", said)
    expect("disc one", guest.shell("cat /mnt/name; umount /mnt"))
    say(change(directory / "two.iso"))
    expect("disc two", guest.shell(f"sleep 1; {mount}; umount /mnt"))
    say(change(""))
    expect("No medium found", guest.shell(f"sleep 1; {mount} 2>&1"))
    say(change(directory / "one.iso"))
    expect("disc one", guest.shell(f"sleep 1; {mount}"))
    say("devices['cd'].unit.store.eject()")
    expect("No medium found", guest.shell("sleep 1; dd if=/dev/sr0 of=/dev/null 2>&1"))


if __name__ == "__main__":
    sys.exit(main())
