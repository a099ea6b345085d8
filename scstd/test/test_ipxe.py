# SPDX-License-Identifier: MIT
"""
iPXE boots from a target: a disk, a CD, and what is not there.

It is the firmware of the network card that QEMU gives a PC, and gets its script from
QEMU by TFTP.  The disk and the CD are boot sectors of our own that say a word on the
serial line and halt: nothing else is needed to know that they were read and run.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from twisted.trial.unittest import TestCase

from scstd.test.clients import find, need
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_real_initiators import call

TARGET = "iqn.2026-11.org.scstd:boot"

_CODE = bytes.fromhex(
    "31c0"  # xor ax, ax
    "8ed8"  # mov ds, ax
    "be287c"  # mov si, 7c28: the text
    "ac"  # lodsb
    "08c0"  # or al, al
    "7409"  # jz: halt
    "b40e"  # mov ah, 0e: a letter, as on a teletype
    "bb0700"  # mov bx, 7
    "cd10"  # int 10
    "ebf2"  # the next one
    "f4"  # hlt
    "ebfd"  # and again
)


def boot_sector(text: str, size: int) -> bytes:
    """
    Return what a PC boots to say a text, filled up with zeros.
    """
    said = _CODE.ljust(40, b"\x90") + text.encode() + b"\r\n\0"
    return (said.ljust(510, b"\0") + b"\x55\xaa").ljust(size, b"\0")


class BootTests(TestCase):
    """
    A PC without a disk.
    """

    def setUp(self) -> None:
        """Make a disk, not too small for cylinders, and a CD."""
        need("qemu-system-x86_64", "ipxe-qemu", "xorriso")
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        disk = boot_sector("DISK-BOOTED", 16 << 20)
        (self.directory / "disk.img").write_bytes(disk)
        tree = self.directory / "tree"
        tree.mkdir()
        (tree / "boot.bin").write_bytes(boot_sector("CD-BOOTED", 2048))
        call(
            *("xorriso", "-as", "mkisofs", "-quiet", "-o"),
            str(self.directory / "cd.iso"),
            *("-b", "boot.bin", "-no-emul-boot", "-boot-load-size", "4"),
            str(tree),
        )

    @contextlib.contextmanager
    def machine(self, name: str, uris: str) -> Iterator[Path]:
        """Have a PC that boots from there; yield what its serial line says."""
        served = self.directory / name
        served.mkdir()
        script = f"#!ipxe\nsanboot {uris} || echo NOT-BOOTED\n"
        (served / "boot.ipxe").write_text(script)
        serial = self.directory / f"{name}.txt"
        program = find("qemu-system-x86_64")
        assert program is not None
        process = subprocess.Popen(
            [
                *(program, "-accel", "tcg", "-m", "32", "-no-reboot"),
                *("-machine", "pc,graphics=off", "-display", "none"),
                *("-nodefaults", "-serial", f"file:{serial}"),
                # Its name as an initiator: else each could take another's session.
                *("-uuid", str(uuid4())),
                *("-netdev", f"user,id=n,tftp={served},bootfile=boot.ipxe"),
                *("-device", "e1000,netdev=n,bootindex=1"),
            ]
        )
        try:
            yield serial
        finally:
            process.kill()
            process.wait(PATIENCE)

    def said(self, serial: Path) -> str:
        """Wait for a word on the serial line; return the line."""
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(FileNotFoundError):
                text = serial.read_text(errors="replace")
                found = re.search(r"\b(DISK|CD|NOT)-BOOTED\r?\n", text)
                if found is not None:
                    return text
            self.assertLess(time.monotonic(), end, serial.name)
            time.sleep(0.05)

    def test_boots(self) -> None:
        """
        A disk and a CD boot, also with two ways to one; a LUN or a target that is not
        there is an error that iPXE knows.
        """
        with (
            Server(
                *("--target", TARGET, "--device"),
                f"hd=vdisk_fileio:filename={self.directory / 'disk.img'}",
                *("--device", f"cd=vcdrom:filename={self.directory / 'cd.iso'}"),
                directory=str(self.directory),
                luns=2,
            ) as server,
            contextlib.ExitStack() as machines,
        ):
            port = server.portal.rpartition(":")[2]
            base = f"iscsi:10.0.2.2::{port}"
            cases = {
                "disk": (f"{base}:0:{TARGET}", "DISK"),
                "cd": (f"{base}:1:{TARGET}", "CD"),
                "ways": (f"{base}:0:{TARGET} {base}:0:{TARGET}", "DISK"),
                "lun": (f"{base}:9:{TARGET}", "NOT"),
                "target": (f"{base}:0:{TARGET}x", "NOT"),
            }
            # All at once: most of their time they wait.
            serials = {
                name: machines.enter_context(self.machine(name, uris))
                for name, (uris, _word) in cases.items()
            }
            for name, (_uris, word) in cases.items():
                text = self.said(serials[name])
                self.assertIn(f"{word}-BOOTED", text, name)
                if word == "NOT":
                    self.assertIn("http://ipxe.org/", text.partition("SAN")[2])
        log = server.log()
        self.assertIn(f"logged in to {TARGET}", log)
        self.assertIn("for LUN 9, which is not there", log)
        self.assertNotIn("Traceback", log)
