# SPDX-License-Identifier: MIT
"""
Linux's own initiator, open-iscsi, at our target: ``make linux-initiator``.

A Linux kernel runs under QEMU with open-iscsi's iscsid and iscsiadm, the kernel's SCSI
disks, ext4 and device mapper (`scstd.test.linux_stage`).  Each scene is a target with a
configuration of its own, and what a person at that Linux would do with it; the target's
console tool shows the other side.  Scenes can be chosen: ``python -m
scstd.test.linux_initiator restarts thin``.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from scstd.test.clients import need
from scstd.test.linux import Guest, expect, refuse, run
from scstd.test.linux_stage import INITIATOR, NAME, Stage, started


def fsck(image: Path) -> None:
    """
    See that the ext4 in an image has no fault.
    """
    run("e2fsck", "-f", "-n", str(image))


PROGRAMS = ("qemu-system-x86_64", "bsdtar", "mke2fs", "e2fsck", "sg_vpd")
"""What has to be there."""

DIGESTS = {"conn[0].iscsi.HeaderDigest": "CRC32C", "conn[0].iscsi.DataDigest": "CRC32C"}

PATIENT = {"session.timeo.replacement_timeout": 60}


def names(guest: Guest, directory: Path) -> None:
    """
    Discovery finds the target at both portals; Linux knows the disk by the names that
    it has there.
    """
    with Stage(guest, directory, {"vm": "LUN 0 disk"}) as stage:
        said = guest.do(f"iscsiadm -m discovery -t sendtargets -p {stage.portals[0]}")
        for portal in stage.portals:
            expect(f"{portal},1 {NAME}:vm", said)
        expect("successful", stage.login("vm"))
        sd = stage.disk("vm")
        said = guest.do(f"cd /sys/block/{sd}/device && cat vendor model rev wwid")
        expect("SCSTD", said)
        expect("disk", said)
        listed = json.loads(stage.admin("-list_dev_attr", "disk", "-json"))
        known = {one["attribute"]: one["value"] for one in listed}
        expect(known["serial"], guest.do("strings vpd_pg80"))
        # What udev names /dev/disk/by-id after, and what the kernel does.
        expect(known["naa"], guest.do("xxd -p vpd_pg83 | tr -d '\\n'"))
        expect(f"naa.{known['naa'].upper()}", said)
        guest.do("cd /")
        (session,) = stage.sessions()
        expect(INITIATOR, json.dumps(session))
        stage.logout()


def files(guest: Guest, directory: Path) -> None:
    """
    A file system with both digests: what is read is what was written.
    """
    with Stage(guest, directory, {"vm": "LUN 0 disk"}) as stage:
        expect("successful", stage.login("vm", DIGESTS))
        said = guest.do("cat /sys/class/iscsi_connection/*/*_digest")
        if said.split() != ["1", "1"] and said.split().count("CRC32C") != 2:
            expect("DataDigest: CRC32C", guest.do("iscsiadm -m session -P2"))
        filesystem(stage, "vm")
        stage.logout()
    fsck(directory / "disk.img")


def filesystem(stage: Stage, target: str, count: int = 8) -> None:
    """
    Make one, fill it, compare it, mount it again and compare it.
    """
    guest = stage.guest
    sd = stage.disk(target)
    guest.do(
        f"rm -f /tmp/sums; mkfs.ext4 -q -F /dev/{sd} && mount -t ext4 /dev/{sd} /mnt"
    )
    expect("filled", guest.do(f"fill /mnt {count}"))
    guest.do("compare")
    guest.do(
        f"umount /mnt && mount -t ext4 -o ro /dev/{sd} /mnt && compare; umount /mnt"
    )
    refuse("error", guest.shell("dmesg | grep -i error"))


def bursts(guest: Guest, directory: Path) -> None:
    """
    Every combination of ImmediateData, InitialR2T and digests, with short bursts.
    """
    with Stage(guest, directory, {"vm": "LUN 0 disk"}) as stage:
        for immediate in ("Yes", "No"):
            for initial in ("Yes", "No"):
                digest = "None" if immediate == initial else "CRC32C"
                stage.login(
                    "vm",
                    {
                        "session.iscsi.ImmediateData": immediate,
                        "session.iscsi.InitialR2T": initial,
                        "session.iscsi.FirstBurstLength": 8192,
                        "session.iscsi.MaxBurstLength": 65536,
                        "conn[0].iscsi.DataDigest": digest,
                    },
                )
                said = guest.do("iscsiadm -m session -P2")
                expect(f"ImmediateData: {immediate}", said)
                expect(f"InitialR2T: {initial}", said)
                expect(f"DataDigest: {digest}", said)
                filesystem(stage, "vm", 2)
                stage.logout()
                guest.do("rm -rf /etc/iscsi/nodes")


def accounts(guest: Guest, directory: Path) -> None:
    """
    CHAP, one way and mutual, with each algorithm; wrong secrets are refused.
    """
    mutual = (
        'IncomingUser "joe one-secret-of-joe"\n'
        'OutgoingUser "vault our-own-secret"\nLUN 0 disk'
    )
    with Stage(guest, directory, {"vault": mutual}) as stage:
        joe = {
            "session.auth.authmethod": "CHAP",
            "session.auth.username": "joe",
            "session.auth.password": "one-secret-of-joe",
        }
        back = {
            "session.auth.username_in": "vault",
            "session.auth.password_in": "our-own-secret",
        }
        wrong = {**joe, "session.auth.password": "another-secret!"}
        expect("authorization failure", stage.login("vault"))
        expect("authorization failure", stage.login("vault", wrong))
        expect("successful", stage.login("vault", joe))
        stage.logout()
        for theirs, ours in (
            *(("MD5", "MD5"), ("SHA1", "SHA1"), ("SHA256", "SHA-256")),
            ("SHA3-256", "SHA3-256"),
        ):
            stage.set("vault", "CHAPAlgorithms", ours)
            algorithm = {"session.auth.chap_algs": theirs}
            said = stage.login("vault", {**joe, **back, **algorithm})
            expect("successful", said)
            stage.logout()
        only = {"session.auth.chap_algs": "MD5"}
        refuse("successful", stage.login("vault", {**joe, **back, **only}))
        liar = {"session.auth.password_in": "not-its-secret!", **algorithm}
        refuse("successful", stage.login("vault", {**joe, **back, **liar}))


def live(guest: Guest, directory: Path) -> None:
    """
    LUNs that come, grow and go while Linux uses another.
    """
    target = ("-driver", "iscsi", "-target", f"{NAME}:vm")
    with Stage(
        guest,
        directory,
        {"vm": "LUN 0 disk"},
        devices=("disk size=64M", "more size=32M"),
    ) as stage:
        expect("successful", stage.login("vm", PATIENT))
        sd = stage.disk("vm")
        guest.do(f"mkfs.ext4 -q -F /dev/{sd} && mount -t ext4 /dev/{sd} /mnt")
        # iscsid looks at the disks when it is told by an Asynchronous Message.
        stage.admin("-add_lun", "7", *target, "-device", "more")
        more = stage.disk("vm", 7)
        guest.do(f"dd if=/dev/urandom of=/dev/{more} bs=1M count=8")

        with (directory / "disk.img").open("r+b") as file:
            file.truncate(128 << 20)
        stage.admin("-resync_dev", "disk")
        guest.shell("touch /mnt/there; sync")
        until = "until_true \"dmesg | grep -i 'capacity data has changed'\""
        guest.do(until)
        guest.do(f"echo 1 > /sys/block/{sd}/device/rescan")
        expect("262144", guest.do(f"cat /sys/block/{sd}/size"))
        guest.do(f"resize2fs /dev/{sd}")
        expect("filled", guest.do("fill /mnt 24; compare"))

        stage.admin("-rem_lun", "7", *target)
        guest.do(
            f"until_true '! dd if=/dev/{more} of=/dev/null bs=4k count=1 iflag=direct'"
        )
        guest.do(f"echo 1 > /sys/block/{more}/device/delete; compare; umount /mnt")
        stage.logout()
    fsck(directory / "disk.img")


def restarts(
    guest: Guest,
    directory: Path,
    ends: Sequence[Callable[[Stage], None]] = (Stage.kill, Stage.stop),
    count: int = 12,
) -> None:
    """
    The target is killed, and stopped, and comes back: work goes on, nothing is lost.
    """
    with Stage(guest, directory, {"vm": "LUN 0 disk"}) as stage:
        expect("successful", stage.login("vm", {**PATIENT, **DIGESTS}))
        sd = stage.disk("vm")
        guest.do(f"mkfs.ext4 -q -F /dev/{sd} && mount -t ext4 /dev/{sd} /mnt")
        for end in ends:
            work(stage, end, count)
        guest.do("umount /mnt")
        refuse("I/O error", guest.do("dmesg"))
        stage.logout()
    fsck(directory / "disk.img")


def work(stage: Stage, end: Callable[[Stage], None], count: int) -> None:
    """
    Have Linux write files while the target ends, by *end*, and comes back.
    """
    begin_work(stage.guest, count)
    end(stage)
    refuse("filled", stage.guest.do("sleep 1; cat /tmp/said"))
    stage.serve_again()
    end_work(stage.guest)


def begin_work(guest: Guest, count: int) -> None:
    """
    Begin to write files; the first is there.
    """
    guest.do(f"rm -rf /mnt/* /tmp/sums /tmp/said; sync; dmesg -c > /dev/null\n"
             f"fill /mnt {count} > /tmp/said 2>&1 &")  # fmt: skip
    guest.do("until_true '[ -s /tmp/sums ]'")


def end_work(guest: Guest) -> None:
    """
    Wait until all files are written, and see that nothing went wrong.
    """
    guest.do("wait", seconds=120)
    said = guest.do("cat /tmp/said")
    if said.strip() != "filled":
        raise AssertionError(said)
    guest.do("compare")
    refuse("I/O error", guest.do("dmesg"))


def silence(guest: Guest, directory: Path) -> None:
    """
    A target that answers no command (black_hole), and one that hangs altogether, which
    Linux's pings find out: when it answers again work goes on.
    """
    with Stage(guest, directory, {"vm": "LUN 0 disk"}) as stage:
        quick = {
            "conn[0].timeo.noop_out_interval": 2,
            "conn[0].timeo.noop_out_timeout": 2,
            "session.err_timeo.abort_timeout": 3,
            "session.err_timeo.lu_reset_timeout": 3,
            "session.err_timeo.tgt_reset_timeout": 3,
        }
        expect("successful", stage.login("vm", {**PATIENT, **quick}))
        sd = stage.disk("vm")
        guest.do(
            f"cd /sys/block/{sd}/device; echo 4 > timeout; echo 4 > queue_depth; cd /"
        )
        guest.do(f"mkfs.ext4 -q -F /dev/{sd} && mount -t ext4 /dev/{sd} /mnt")

        begin_work(guest, 40)
        stage.set("vm", "black_hole", 2)
        # A command has timed out; now Linux aborts it, resets the unit, and tries again.
        guest.do(f"until_true 'grep -v 0x0 /sys/block/{sd}/device/iotmo_cnt'")
        stage.set("vm", "black_hole", 0)
        end_work(guest)

        begin_work(guest, 40)
        stage.server.process.send_signal(signal.SIGSTOP)
        guest.do("until_true \"dmesg | grep 'ping timeout'\"")
        stage.server.process.send_signal(signal.SIGCONT)
        end_work(guest)
        guest.do("umount /mnt")
        stage.logout()
    fsck(directory / "disk.img")


def thin(guest: Guest, directory: Path) -> None:
    """
    What a file system has no use for any more is no longer in the file (fstrim).
    """
    image = directory / "disk.img"
    with Stage(
        guest,
        directory,
        {"vm": "LUN 0 disk"},
        devices=("disk size=96M thin_provisioned=1",),
    ) as stage:
        expect("successful", stage.login("vm"))
        sd = stage.disk("vm")
        guest.do(f"mkfs.ext4 -q -F /dev/{sd} && mount -t ext4 /dev/{sd} /mnt")
        expect("filled", guest.do("fill /mnt 24; sync"))
        full = image.stat().st_blocks * 512
        guest.do("rm /mnt/[12]*; head -n 0 /tmp/sums; grep '/[3-9]$' /tmp/sums > /tmp/s;"
                 " mv /tmp/s /tmp/sums; sync; fstrim /mnt")  # fmt: skip
        left = image.stat().st_blocks * 512
        if left > full - (24 << 20):
            raise AssertionError(f"{full} bytes before, {left} after")
        guest.do("compare; umount /mnt")
        stage.logout()
    fsck(image)


def reservations(guest: Guest, directory: Path) -> None:
    """
    sg_persist registers, reserves and lets go, and others are kept out.
    """
    with Stage(guest, directory, {"one": "LUN 0 disk", "two": "LUN 0 disk"}) as stage:
        stage.login("one")
        stage.login("two")
        first, second = stage.disk("one"), stage.disk("two")
        out = "sg_persist --no-inquiry --out"
        guest.do(f"{out} --register --param-sark=0xabc /dev/{first}")
        guest.do(f"{out} --reserve --param-rk=0xabc --prout-type=5 /dev/{first}")
        expect("0xabc", guest.do(f"sg_persist --no-inquiry -r /dev/{second}"))
        write = "dd if=/dev/zero bs=4k count=1 oflag=direct of=/dev/{}".format
        guest.do(write(first))
        guest.shell(write(second), fails=True)
        guest.do(f"{out} --register --param-sark=0xdef /dev/{second}")
        guest.do(f"{out} --preempt --param-rk=0xdef --param-sark=0xabc --prout-type=5"
                 f" /dev/{second}")  # fmt: skip
        guest.do(write(second))
        guest.shell(write(first), fails=True)
        guest.do(f"{out} --clear --param-rk=0xdef /dev/{second}")
        guest.do(f"until_true '{write(first)}'")
        stage.logout()


def paths(guest: Guest, directory: Path) -> None:
    """
    Two portals are two paths of device mapper's multipath: one is lost, work goes on.
    """
    with Stage(guest, directory, {"vm": "LUN 0 disk", "b": "LUN 0 disk"}) as stage:
        short = {"session.timeo.replacement_timeout": 3, "conn[0].timeo.noop_out_interval": 1,
                 "conn[0].timeo.noop_out_timeout": 2}  # fmt: skip
        stage.login("vm", short)
        stage.login("b", short, 1)
        disks = [stage.disk("vm"), stage.disk("b")]
        wwid = guest.do(f"cat /sys/block/{disks[0]}/device/wwid").strip()
        expect(wwid, guest.do(f"cat /sys/block/{disks[1]}/device/wwid"))
        numbers = [guest.do(f"cat /sys/block/{one}/dev").strip() for one in disks]
        size = guest.do(f"cat /sys/block/{disks[0]}/size").strip()
        table = (f"0 {size} multipath 1 queue_if_no_path 0 1 1 round-robin 0 2 1"
                 f" {numbers[0]} 10 {numbers[1]} 10")  # fmt: skip
        guest.do(f"dmsetup create many --noudevrules --noudevsync --table '{table}'")
        guest.do("until_true '[ -b /dev/dm-0 ]'")
        guest.do("mkfs.ext4 -q -F /dev/dm-0 && mount -t ext4 /dev/dm-0 /mnt")
        begin_work(guest, 30)
        stage.admin("-disable_target", f"{NAME}:vm", "-driver", "iscsi")
        stage.admin("-close_session", INITIATOR, "-driver", "iscsi",
                    "-target", f"{NAME}:vm")  # fmt: skip
        guest.do("until_true \"dmsetup status many | grep ' F '\"")
        guest.do("wait", seconds=90)
        expect("filled", guest.do("cat /tmp/said"))
        stage.admin("-enable_target", f"{NAME}:vm", "-driver", "iscsi")
        guest.do(
            f"until_true 'dd if=/dev/{disks[0]} of=/dev/null bs=4k count=1 iflag=direct'"
        )
        guest.do(f"dmsetup message many 0 reinstate_path {numbers[0]}")
        guest.do("compare; umount /mnt; dmsetup remove --noudevrules --noudevsync many")
        stage.logout()
    fsck(directory / "disk.img")


SCENES = {
    scene.__name__: scene
    for scene in (
        *(names, files, bursts, accounts, live, restarts, silence, thin),
        *(reservations, paths),
    )
}
"""What Linux does, by name."""


def main(arguments: Sequence[str]) -> int:
    """
    Play the scenes that are named, or all.
    """
    need(*PROGRAMS)
    with tempfile.TemporaryDirectory() as name, started(Path(name)) as guest:
        for scene in arguments or SCENES:
            print(f"== {scene}: {' '.join((SCENES[scene].__doc__ or '').split())}")
            directory = Path(name) / scene
            directory.mkdir()
            SCENES[scene](guest, directory)
    print("Linux and the target understand each other.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
