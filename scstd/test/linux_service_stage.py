# SPDX-License-Identifier: MIT
"""
A Linux whose process 1 is systemd, and initiators on this machine that reach its port:
the stage of `scstd.test.linux_service`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from scstd.initiator.blocking import BlockingSession
from scstd.initiator.reservations import in_cdb
from scstd.test.linux import Guest, same
from scstd.test.linux_systemd import image, system
from scstd.test.serving import free_port
from scstd.test.writing import Writer

PROGRAMS = ("qemu-system-x86_64", "bsdtar", "mke2fs", "qemu-io", "qemu-block-extra",
            "iscsi-test-cu", "iscsi-ls")  # fmt: skip
"""What has to be there."""

_CONFIGURATION = """\
HANDLER vdisk_fileio {{
DEVICE file {{
filename /srv/scstd/file.img
size 64M
}}
DEVICE block {{
filename /dev/vdb
filter "delay write=0.05"
}}
{devices}
}}
TARGET_DRIVER iscsi {{
enabled 1
{portal}
TARGET {target} {{
enabled 1
LUN 0 file
LUN 1 block
{luns}
}}
}}
"""

_HASTE = """\
[Unit]
StartLimitIntervalSec=600
[Service]
RestartSec=5
WatchdogSec=10
"""

TARGET = "iqn.2026-11.org.scstd:service"


def device(name: str, size: str = "") -> str:
    """
    Return the block of a device that is a file.
    """
    return f"DEVICE {name} {{\nfilename /srv/scstd/{name}.img\n{size}\n}}"


class Machine:
    """
    That Linux, *guest*, and what initiators of this machine reach of it: its port 3260
    by *port* of the loopback; *disk* is the file that its ``/dev/vdb`` is.
    """

    def __init__(self, guest: Guest, port: int, disk: Path) -> None:
        self.guest = guest
        self.port = port
        self.disk = disk
        self._writers: list[Writer] = []

    def url(self, lun: int = 0, target: str = TARGET) -> str:
        """
        Return the URL of a LUN.
        """
        return f"iscsi://127.0.0.1:{self.port}/{target}/{lun}"

    def writer(self, count: int, pause: int = 50) -> Writer:
        """
        Have QEMU's initiator begin to write to the block device.
        """
        writer = Writer(self.url(1), count, pause)
        self._writers.append(writer)
        writer.wait(40)
        return writer

    def end(self) -> None:
        """
        End the writers that a scene has left: they would try for ever.
        """
        for writer in self._writers:
            writer.process.kill()

    def configure(self, *, devices: str = "", luns: str = "", portal: str = "") -> None:
        """
        Write the configuration: LUN 0 is a file and LUN 1 the block device, whose
        writes take a while.
        """
        text = _CONFIGURATION.format(
            devices=devices,
            luns=luns,
            portal=portal and f"portal {portal}",
            target=TARGET,
        )
        self.guest.do(f"cat > /etc/scst.conf <<'END'\n{text}END")

    def show(self, name: str) -> str:
        """
        Return what systemd knows of the service.
        """
        return self.guest.do(f"systemctl show scstd --value -p {name}").strip()

    def status(self) -> str:
        """
        Return what systemd says of the service.
        """
        return self.guest.shell("systemctl status --full scstd")

    def admin(self, *words: str) -> str:
        """
        Return what scstadmin says there.
        """
        return self.guest.do(f"scstadmin -noprompt {' '.join(words)}")

    def wait(self, name: str, value: str) -> None:
        """
        Wait until systemd knows that of the service.
        """
        self.guest.do(f"until_true '[ \"$(show {name})\" = {value} ]'", seconds=400)

    def serve(self) -> None:
        """
        Have the service run with the configuration of the scenes.
        """
        self.configure()
        self.guest.do("systemctl reload-or-restart scstd")
        same("active", self.show("ActiveState"))

    def haste(self) -> None:
        """
        Have a shorter watchdog; a limit of starts, and a time between them to look at
        the status, for so slow a processor.
        """
        where = "/run/systemd/system/scstd.service.d"
        self.guest.do(
            f"mkdir -p {where}; cat > {where}/haste.conf <<'END'\n{_HASTE}END\n"
            "systemctl daemon-reload"
        )

    def sessions(self) -> list[tuple[str, str]]:
        """
        Return who is logged in, and from where.
        """
        found = json.loads(self.admin("-list_sessions", "-json"))
        return [(one["session"], one["ip"]) for one in found]

    def identity(self) -> list[bytes]:
        """
        Return what LUN 0 is known by: its serial number, its designators, and who has
        registered.
        """
        session = self.session(9)
        found = [
            session.command(bytes((0x12, 1, page, 0, 255, 0)), read=255)
            for page in (0x80, 0x83)
        ]
        # Without the count of changes, which a restart begins again.
        found.append(session.command(in_cdb(0, 255), read=255)[4:])
        session.socket.close()
        return found

    def session(self, number: int = 1, target: str = TARGET) -> BlockingSession:
        """
        Log in to LUN 0.
        """
        return BlockingSession(self.url(0, target), number)


@contextlib.contextmanager
def started(directory: Path) -> Iterator[Machine]:
    """
    Start that Linux.
    """
    linux = system(directory)
    made = image(directory, linux.tree)
    disk = directory / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    port = free_port()
    with Guest(
        linux,
        *("-drive", f"file={made},format=raw,if=virtio,cache=unsafe"),
        *("-drive", f"file={disk},format=raw,if=virtio"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:3260"),
        memory=768,
    ) as guest:
        machine = Machine(guest, port, disk)
        try:
            yield machine
        finally:
            machine.end()
