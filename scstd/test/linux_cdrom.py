# SPDX-License-Identifier: MIT
"""
Linux's own CD-ROM driver at our drive: ``make linux-cdrom``.

A Linux kernel runs under QEMU, with nothing but busybox; the commands of its driver
(sr) go to the target as they are (scsi-generic).  It mounts a disc, which locks the
drive; the disc is changed from the console meanwhile.  The kernel and busybox are
downloaded with apt, not installed.  It takes about a minute.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scstd.test.clients import find, need
from scstd.test.serving import Server

MODULES = (
    "virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci"
    " scsi_common scsi_mod cdrom sr_mod isofs virtio_scsi"
)

INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
for m in {MODULES}; do insmod /m/$m.ko 2>/dev/null; done
echo 200 > /sys/block/sr0/events_poll_msecs
stty -echo < /dev/ttyS0
echo READY > /dev/ttyS0
exec sh < /dev/ttyS0 > /dev/ttyS0 2>&1
"""


def run(*command: str, cwd: Path | None = None, data: bytes = b"") -> bytes:
    """
    Run a program that has to succeed; return what it printed.
    """
    done = subprocess.run(
        [find(command[0]) or command[0], *command[1:]],
        cwd=cwd,
        input=data,
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    return done.stdout


def linux(directory: Path) -> tuple[Path, Path]:
    """
    Return a kernel, and a root file system with busybox and what the drive needs.
    """
    said = run("apt-cache", "depends", "linux-image-cloud-amd64").decode()
    (package,) = re.findall(r"Depends: (linux-image-\S+)", said)
    run("apt-get", "-qq", "download", package, "busybox-static", cwd=directory)
    for file in directory.glob("*.deb"):
        run("dpkg-deb", "-x", str(file), str(directory / "tree"))
    (kernel,) = (directory / "tree" / "boot").glob("vmlinuz-*")
    root = directory / "root"
    for name in ("bin", "proc", "sys", "dev", "mnt", "m"):
        (root / name).mkdir(parents=True)
    (directory / "tree" / "bin" / "busybox").rename(root / "bin" / "busybox")
    for name in MODULES.split():
        for module in (directory / "tree").rglob(f"{name}.ko"):
            module.rename(root / "m" / module.name)
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    archive = run("bsdtar", "--format", "newc", "-cf", "-", "-C", str(root), ".")
    packed = directory / "root.gz"
    packed.write_bytes(gzip.compress(archive, 1))
    return kernel, packed


class Guest:
    """
    The running Linux, and its shell on the serial line.
    """

    def __init__(self, url: str, kernel: Path, root: Path) -> None:
        program = find("qemu-system-x86_64")
        assert program is not None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._count = 0
        self.process = subprocess.Popen(
            [
                *(program, "-accel", "tcg", "-m", "256", "-nodefaults"),
                *("-display", "none", "-no-reboot", "-serial", "stdio"),
                *("-kernel", str(kernel), "-initrd", str(root)),
                *("-append", "console=ttyS0 quiet"),
                *("-device", "virtio-scsi-pci", "-device", "scsi-generic,drive=cd"),
                *("-drive", f"file={url},format=raw,if=none,id=cd,readonly=on"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def ready(self) -> None:
        """
        Wait until the shell is there.
        """
        while "READY" not in self._lines.get(timeout=120):
            pass

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def shell(self, command: str) -> str:
        """
        Return what a command printed.
        """
        self._count += 1
        assert self.process.stdin is not None
        end = f"end-of-{self._count}"
        self.process.stdin.write(f"{command}; echo end-of-$(({self._count}))\n")
        self.process.stdin.flush()
        said = []
        while end not in (line := self._lines.get(timeout=120)):
            said.append(line)
        print(f"# {command}\n  {' '.join(''.join(said).split())}", flush=True)
        return "".join(said)


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


def expect(text: str, said: str) -> None:
    """
    See that something was said.
    """
    if text not in said:
        raise AssertionError(f"expected {text!r}, got {said!r}")


def main() -> int:
    """
    Do it.
    """
    need("qemu-system-x86_64", "qemu-block-extra", "bsdtar", "xorriso", "ssh")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        kernel, root = linux(directory)
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

            guest = Guest(server.url, kernel, root)
            try:
                guest.ready()
                play(
                    guest,
                    partial(console, directory, port),
                    directory,
                    hashlib.md5(big).hexdigest(),
                )
            finally:
                guest.process.kill()
                guest.process.wait(20)
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
