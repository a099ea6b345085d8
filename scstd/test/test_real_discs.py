# SPDX-License-Identifier: MIT
"""
Real discs and real machines: images made by xorriso, read by bsdtar, and a PC that
boots GRUB from the drive.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import scstd
from scstd.test.clients import EXTRA, find, need
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_real_initiators import RealTests, call

KEYS = {
    " ": "spc",
    "\n": "ret",
    "_": "shift-minus",
    "/": "slash",
    "(": "shift-9",
    ")": "shift-0",
}


class ImageTests(RealTests):
    """
    An image goes through the drive.
    """

    def test_tree(self) -> None:
        """What xorriso wrote, QEMU copies and bsdtar reads; nobody can write to it."""
        need("xorriso", "qemu-img", "qemu-io", "qemu-block-extra", "bsdtar")
        tree = Path(scstd.__file__).parent
        image = self.directory / "source.iso"
        call("xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", str(image), str(tree))
        back = self.directory / "back.iso"
        with Server(
            "--device", f"cd=vcdrom:filename={image}", directory=str(self.directory)
        ) as server:
            said = json.loads(call("qemu-img", "info", "--output=json", server.url))
            self.assertEqual(said["virtual-size"], image.stat().st_size)
            compare = ("qemu-img", "compare", "-f", "raw", "-F", "raw")
            self.assertIn("identical", call(*compare, str(image), server.url))
            convert = ("qemu-img", "convert", "-f", "raw", "-O", "raw")
            call(*convert, server.url, str(back))
            program = find("qemu-io")
            assert program is not None
            done = subprocess.run(
                [program, "-f", "raw", "-c", "write -P 1 64k 4k", server.url],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            self.assertNotIn("wrote", done.stdout)
            self.assertNotEqual(done.stdout + done.stderr, "")
        self.assertTrue(filecmp.cmp(image, back, shallow=False))
        listed = set(call("bsdtar", "-tf", str(back)).splitlines())
        self.assertIn("handlers/cdrom.py", listed)
        copy = self.directory / "copy"
        copy.mkdir()
        call("bsdtar", "-xf", str(back), "-C", str(copy))
        for path in tree.rglob("*.py"):
            name = path.relative_to(tree)
            self.assertEqual((copy / name).read_bytes(), path.read_bytes(), name)


class Machine:
    """
    A PC without a disk: its CD drive is a LUN, and its guest's commands go to the
    target as they are (scsi-generic).  *directory* is where its sockets are.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self._serial = directory / "serial.txt"
        program = find("qemu-system-x86_64")
        assert program is not None
        here, there = socket.socketpair()
        with there:
            self._process = subprocess.Popen(
                [
                    *(program, "-accel", "tcg", "-m", "128", "-nodefaults"),
                    *("-vga", "std", "-display", "none"),
                    *("-serial", f"file:{self._serial}"),
                    *("-chardev", f"socket,id=qmp,fd={there.fileno()}"),
                    *("-mon", "chardev=qmp,mode=control"),
                    *("-device", "virtio-scsi-pci"),
                    *("-drive", f"file={url},format=raw,if=none,id=cd,readonly=on"),
                    *("-device", "scsi-generic,drive=cd,bootindex=0"),
                ],
                pass_fds=(there.fileno(),),
            )
        here.settimeout(PATIENCE)
        self._socket = here
        self._file = here.makefile("rw", encoding="utf-8")
        self._file.readline()
        self.tell("qmp_capabilities")

    def tell(self, command: str, **arguments: str) -> Any:
        """Have QEMU do something; return what it answers."""
        message = {"execute": command, "arguments": arguments}
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise AssertionError(answer["error"])

    def monitor(self, line: str) -> str:
        """Return what QEMU's monitor answers to a line."""
        said: str = self.tell("human-monitor-command", **{"command-line": line})
        return said

    def screen(self) -> str:
        """Return the text on the screen, out of the memory of the graphics card."""
        rows = [
            line.split(":")[1].split()
            for line in self.monitor("xp /2000hx 0xb8000").splitlines()
        ]
        cells = [int(cell, 16) & 0xFF for row in rows for cell in row]
        text = "".join(chr(cell) if 32 <= cell < 127 else " " for cell in cells)
        return "\n".join(text[at : at + 80].rstrip() for at in range(0, 2000, 80))

    def serial(self) -> str:
        """Return what came over the serial line."""
        return self._serial.read_text(encoding="utf-8", errors="replace")

    def press(self, text: str) -> None:
        """Press the keys of a text, each when the one before has been let go."""
        for letter in text:
            self.monitor(f"sendkey {KEYS.get(letter, letter)} 20")

    def wait_for(self, text: str, where: Callable[[], str]) -> None:
        """Wait until a text is somewhere."""
        end = monotonic() + PATIENCE
        while text not in where():
            if monotonic() > end:
                raise AssertionError(f"no {text!r} in:\n{where()}\n{self.screen()}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(0.05)
                raise AssertionError(f"the machine ended with {status}")

    def stop(self) -> None:
        """Turn it off."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._file.close()
        self._socket.close()


class BootTests(RealTests):
    """
    A PC boots from the drive.
    """

    def test_grub(self) -> None:
        """GRUB's rescue disc boots to its menu, and works from the serial line."""
        need("qemu-system-x86_64", "qemu-block-extra", "grub-rescue-pc")
        image = EXTRA["grub-rescue-pc"]
        with Server(
            "--device", f"cd=vcdrom:filename={image}", directory=str(self.directory)
        ) as server:
            machine = Machine(server.url, self.directory)
            try:
                machine.wait_for("GNU GRUB  version", machine.screen)
                machine.wait_for("GNU/Linux", machine.screen)
                machine.press("c")
                machine.wait_for("grub>", machine.screen)
                # The serial driver and ls are modules: GRUB reads them from the disc.
                machine.press("serial\n")
                machine.press("terminal_output serial\n")
                machine.wait_for("grub>", machine.serial)
                machine.press("ls (cd)/boot/grub/\n")
                machine.wait_for("i386-pc/", machine.serial)
                self.assertIn("grub.cfg", machine.serial())
            finally:
                machine.stop()
