# SPDX-License-Identifier: MIT
"""
The unit files under systemd itself: ``make linux-service``.

A Linux runs under QEMU with systemd as its process 1 (`scstd.test.linux_systemd`).  The
first scene installs the service there as doc/operating.md says; the others are what an
administrator does with it, while initiators of this machine use its disks.  Scenes can
be chosen: ``python -m scstd.test.linux_service reload socket``.  The emulated processor
is some fifteen times slower than a real one: a start takes it ten seconds, all of it
five to ten minutes.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from scstd.initiator.reservations import APTPL, IGNORE, out_cdb, parameters
from scstd.test.clients import need
from scstd.test.linux import expect, refuse, same
from scstd.test.linux_service_stage import PROGRAMS, Machine, device, started
from scstd.test.linux_systemd import instructions
from scstd.test.suite import run_case
from scstd.test.writing import qemu_io

EXAMPLE = "iqn.2026-11.org.example:storage"
"""The target of contrib/scst.conf."""

CASES = (
    "SCSI.ExtendedCopy.Simple", "SCSI.WriteAtomic16.Simple", "SCSI.GetLBAStatus.Simple",
    "SCSI.ProutRegister.Simple", "SCSI.Sanitize.Overwrite", "SCSI.Prefetch16.Simple",
)  # fmt: skip
"""Those of libiscsi's suite that need most of the kernel."""


def install(machine: Machine) -> None:
    """
    As doc/operating.md says; it serves when `systemctl` returns, as a user of its own
    that may do nothing else.
    """
    guest = machine.guest
    *first, enable, reload = instructions()
    for line in first:
        guest.do(line)
    expect("enable --now scstd", enable)
    guest.do(enable)
    session = machine.session(target=EXAMPLE)
    same(session.read(0, 1), bytes(512))
    session.socket.close()
    said = machine.status()
    expect("Active: active (running)", said)
    expect('Status: "Serving 1 devices by 1 targets"', said)
    guest.do(reload)

    user = guest.do("id -u scstd").strip()
    said = guest.do(f"cat /proc/{machine.show('MainPID')}/status")
    fields = dict(re.findall(r"(?m)^(\w+):\t(.*?)\s*$", said))
    same("\t".join([user] * 4), fields["Uid"])
    expect("6", fields["Groups"])
    same(("1", "2"), (fields["NoNewPrivs"], fields["Seccomp"]))
    same("0000000000000000", fields["CapEff"])
    said = guest.do("stat -c '%n %U %a' /var/lib/scstd /var/lib/scstd/*"
                    " /srv/scstd/disk1.img")  # fmt: skip
    expect("/var/lib/scstd scstd 700\n/var/lib/scstd/control scstd 600\n", said)
    expect("/srv/scstd/disk1.img scstd 600", said)
    # 20: an exposure of 2.0, of 10.
    expect("OK", guest.do("systemd-analyze security --threshold=20 scstd | tail -2"))
    said = guest.do("journalctl -u scstd")
    refuse("plugin cache", said)
    refuse("Traceback", said)


def hardened(machine: Machine) -> None:
    """
    What the unit takes away is missed by nobody: a block device, thin provisioning,
    copies, atomic writes, overwriting; a file elsewhere is refused.
    """
    machine.serve()
    for lun in range(2):
        qemu_io(machine.url(lun), "write -P 165 1M 64k", "write -z 2M 1M", "flush",
                "read -P 165 1M 64k", "read -P 0 2M 1M", "discard 1M 64k",
                "write -f -P 7 8M 64k", "read -P 7 8M 64k")  # fmt: skip
    for case in CASES:
        outcome = run_case(case, [machine.url()])
        print(f"{case}: {outcome.verdict} [{outcome.seconds:.1f} s]", flush=True)
        same("passed", outcome.verdict)
    machine.configure(devices="DEVICE no {\nfilename /opt/no.img\nsize 1M\n}")
    said = machine.guest.shell("systemctl reload scstd", fails=True)
    expect("Job for scstd.service failed", said)
    expect("Read-only file system", machine.status())


def reload(machine: Machine) -> None:
    """
    What a file that is right adds is there; one that is wrong, and one that cannot be
    carried out, change nothing, and the status says why.  A session notices nothing.
    """
    guest = machine.guest
    machine.serve()
    process = machine.show("MainPID")
    writer = machine.writer(4000, 400)
    (before,) = machine.sessions()
    machine.configure(devices=device("more", "size 1M"), luns="LUN 2 more")
    guest.do("systemctl reload scstd")
    expect('Status: "Serving 3 devices by 1 targets"', machine.status())
    for devices, reason in (
        ("DEVICE file {", "scst.conf:10:8: 'file': this device is there already"),
        (device("absent"), "/srv/scstd/absent.img does not exist"),
    ):
        machine.configure(devices=devices)
        guest.shell("systemctl reload scstd", fails=True)
        said = machine.status()
        expect(reason, said)
        expect("Active: active (running)", said)
        expect('Status: "Serving 3 devices by 1 targets"', said)
    writer.under_way()
    same([before], machine.sessions())
    writer.check()
    qemu_io(machine.url(2), "write -P 3 0 64k", "read -P 3 0 64k")
    same(process, machine.show("MainPID"))


def restart(machine: Machine) -> None:
    """
    Under QEMU's initiator it is stopped and started, and killed and started again by
    systemd: all that was written is there, and the disk is the same one.
    """
    guest = machine.guest
    machine.serve()
    session = machine.session(9)
    session.command(out_cdb(IGNORE), data=parameters(0, 0xABC, APTPL))
    session.socket.close()
    known = machine.identity()
    expect("0abc", known[-1].hex())
    for end in ("systemctl restart scstd", "systemctl kill --signal=KILL scstd"):
        process = machine.show("MainPID")
        writer = machine.writer(1200)
        guest.do(end)
        machine.wait("SubState", "running")
        writer.under_way()
        writer.end()
        if process == machine.show("MainPID"):
            raise AssertionError("it is the same process")
        same(known, machine.identity())
    same("1", machine.show("NRestarts"))


def watchdog(machine: Machine) -> None:
    """
    A service that hangs is ended and started again, and initiators go on.
    """
    guest = machine.guest
    machine.haste()
    machine.configure()
    guest.do("systemctl restart scstd")
    process = machine.show("MainPID")
    writer = machine.writer(600)
    guest.do(f"kill -STOP {process}")
    began = time.monotonic()
    machine.wait("NRestarts", "1")
    print(f"ended after {time.monotonic() - began:.1f} s")
    machine.wait("SubState", "running")
    print(f"serving after {time.monotonic() - began:.1f} s")
    expect("Watchdog timeout (limit 10s)", guest.do("journalctl -u scstd | tail -40"))
    writer.under_way()
    writer.end()


def failed(machine: Machine) -> None:
    """
    A start that fails says why in the status; after five there is no more; a file that
    is mended is served, also by the next try alone.
    """
    guest = machine.guest
    machine.haste()
    machine.configure(devices="DEVICE file {")
    guest.shell("systemctl restart scstd", fails=True)
    mistake = 'Status: "/etc/scst.conf:1:22: '
    expect(mistake, machine.status())
    machine.wait("ActiveState", "failed")
    said = machine.status()
    expect(mistake, said)
    expect("Start request repeated too quickly", said)
    expect("expected a closing brace", guest.do("journalctl -u scstd -p err"))
    same("5", machine.show("NRestarts"))
    guest.shell("systemctl start scstd", fails=True)

    machine.configure(devices=device("missing"))
    guest.do("systemctl reset-failed scstd")
    guest.shell("systemctl start scstd", fails=True)
    said = machine.status()
    expect('Status: "device missing: /srv/scstd/missing.img does not exist', said)
    guest.do("dd if=/dev/zero of=/srv/scstd/missing.img bs=1M count=1 2> /dev/null\n"
             "chown scstd /srv/scstd/missing.img")  # fmt: skip
    machine.wait("SubState", "running")
    expect('Status: "Serving 3 devices by 1 targets"', machine.status())
    machine.session().socket.close()


def stop(machine: Machine) -> None:
    """
    What was flushed is on the disk, as its own file on this machine shows; a stop lets
    what is under way end, and then all that was answered is there.
    """
    machine.serve()
    qemu_io(machine.url(1), "write -P 77 32M 1M", "flush")
    disk = machine.disk
    same(b"\x4d" * (1 << 20), disk.read_bytes()[32 << 20 : 33 << 20])
    writer = machine.writer(1200)
    machine.guest.do("systemctl stop scstd")
    writer.under_way()
    writer.stop()
    data = disk.read_bytes()
    for number in writer.done:
        where = number * writer.SIZE
        piece = bytes([writer.pattern(number)]) * writer.SIZE
        same(piece, data[where : where + writer.SIZE])
    print(f"{len(writer.done)} pieces were answered, and are there")
    same(("inactive", "success"), (machine.show("ActiveState"), machine.show("Result")))


def unmounted(machine: Machine) -> None:
    """
    Where a file system is to be mounted, and cannot be, nothing is served, and no file
    made in place of one that is there.
    """
    guest = machine.guest
    machine.configure(devices=device("new", "size 1M"))
    where = "/etc/systemd/system/srv-scstd.mount"
    guest.do(f"systemctl stop scstd; cat > {where} <<'END'\n[Mount]\nWhat=none\n"
             "Where=/srv/scstd\nType=none-such\nEND\nsystemctl daemon-reload")  # fmt: skip
    expect("dependency job", guest.shell("systemctl start scstd", fails=True))
    guest.shell("ls /srv/scstd/new.img", fails=True)
    guest.do(f"rm {where}; systemctl daemon-reload")


def socket(machine: Machine) -> None:
    """
    The port is systemd's: the first connection starts the service, and nobody is
    refused while it is started again, or stopped and started by who comes next.
    """
    guest = machine.guest
    guest.do("systemctl stop scstd")
    machine.configure(portal="systemd:domain=INET6:index=0")
    guest.do("systemctl start scstd.socket")
    same("inactive", machine.show("ActiveState"))
    qemu_io(machine.url(), "write -P 9 0 64k", "read -P 9 0 64k")
    same("active", machine.show("ActiveState"))

    guest.do("/opt/scstd/bin/python probe.py > /run/probe &")
    writer = machine.writer(1200)
    guest.do("systemctl restart scstd")
    writer.under_way()
    guest.do("systemctl stop scstd")
    machine.wait("SubState", "running")
    writer.end()
    print(guest.do("sort /run/probe | uniq -c"))
    expect("let in", guest.do("cat /run/probe"))
    guest.shell("grep refused /run/probe", fails=True)
    # They would be without the socket.
    guest.do("systemctl stop scstd.socket scstd; until_true 'grep refused /run/probe'")
    guest.do("kill %1")


SCENES = {
    scene.__name__: scene
    for scene in (
        *(install, hardened, reload, restart, stop, unmounted, failed, watchdog),
        socket,
    )
}
"""What is done with it, by name."""


def main(arguments: Sequence[str]) -> int:
    """
    Play the scenes that are named, or all; the first is always played.
    """
    need(*PROGRAMS)
    with tempfile.TemporaryDirectory() as name, started(Path(name)) as machine:
        for scene in dict.fromkeys(("install", *(arguments or SCENES))):
            began = time.monotonic()
            print(f"== {scene}: {' '.join((SCENES[scene].__doc__ or '').split())}")
            try:
                SCENES[scene](machine)
            except BaseException:
                machine.status()
                machine.guest.shell("journalctl -u scstd -n 60")
                raise
            print(f"== {scene}: {time.monotonic() - began:.0f} s", flush=True)
    print("systemd and the service understand each other.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
