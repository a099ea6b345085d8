# SPDX-License-Identifier: MIT
"""
The real programs that tests use, and where they come from.

``python scstd/test/clients.py --install`` installs what is missing, where it may: as
root, with apt.  A test says which programs it needs; if one is missing it is skipped,
or fails where ``CI=true`` says that a skip would hide something.

This file imports nothing of ours: the Makefile runs it before anything is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

PACKAGES = {
    "iscsi-test-cu": "libiscsi-bin",
    "iscsi-perf": "libiscsi-bin",
    "iscsi-ls": "libiscsi-bin",
    "iscsi-inq": "libiscsi-bin",
    "iscsi-readcapacity16": "libiscsi-bin",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-nbd": "qemu-utils",
    "sg_vpd": "sg3-utils",
    "fio": "fio",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "tgtd": "tgt",
    "cc": "gcc",
    "socat": "socat",
    "tshark": "tshark",
    "dumpcap": "wireshark-common",
    "text2pcap": "wireshark-common",
    "isnsd": "open-isns-server",
    "isnsadm": "open-isns-utils",
    "sdparm": "sdparm",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sftp": "openssh-client",
    "sshfs": "sshfs",
    "fusermount3": "fuse3",
    "unshare": "util-linux",
    "qemu-system-x86_64": "qemu-system-x86",
    "xorriso": "xorriso",
    "bsdtar": "libarchive-tools",
    "systemd-analyze": "systemd",
    "man": "man-db",
    "zsh": "zsh",
    "faketime": "faketime",
    "fsfreeze": "util-linux",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
}
"""Programs, and the Debian packages that have them."""

EXTRA = {
    "qemu-block-extra": "/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so",
    "libiscsi-dev": "/usr/include/iscsi/iscsi.h",
    "openssh-sftp-server": "/usr/lib/openssh/sftp-server",
    "ipxe-qemu": "/usr/lib/ipxe/qemu/pxe-e1000.rom",
    "grub-rescue-pc": "/usr/lib/grub-rescue/grub-rescue-cdrom.iso",
}
"""Packages without a program, and a file of each (elsewhere they are asked for)."""

LINUX = (
    "linux-image",
    "busybox-static",
    "open-iscsi",
    "libopeniscsiusr",
    "libisns0",
    "libkmod2",
    "dmsetup",
    "systemd",
    "libsystemd-shared",
    "libsystemd0",
)
"""
Packages of the Linux that runs under QEMU (`scstd.test.linux`): downloaded, never
installed here.  linux-image is the kernel that linux-image-cloud-amd64 depends on.
"""

DOWNLOADS = Path(__file__).parents[2] / "build" / "linux"
"""Where they are."""


def missing() -> list[str]:
    """
    Return the packages of the programs that are not there.
    """
    wanted = {package for name, package in PACKAGES.items() if not find(name)}
    wanted |= {package for package, file in EXTRA.items() if not os.path.exists(file)}  # noqa: PTH110
    return sorted(wanted)


def missing_downloads() -> list[str]:
    """
    Return the packages of `LINUX` that are not downloaded.
    """
    return [package for package in LINUX if not _files(package)]


def _files(package: str) -> list[Path]:
    return sorted(DOWNLOADS.glob(f"{package}[-_]*.deb"))


def downloaded(package: str) -> Path:
    """
    Return the file of a package of `LINUX`; it is downloaded if it is not there.
    """
    if not _files(package):
        download(package)
    return _files(package)[-1]


def download(package: str) -> None:
    """
    Download a package of `LINUX` with apt, which need not be root for that.
    """
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    name = package
    if package == "linux-image":
        said = subprocess.run(
            ["apt-cache", "depends", "linux-image-cloud-amd64"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        (name,) = re.findall(r"Depends: (linux-image-\S+)", said)
    # As root apt would become another user, who may not write here.
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name]
    subprocess.run(command, cwd=DOWNLOADS, check=True)


def find(program: str) -> str | None:
    """
    Return the path of a program; administrators' directories count too.
    """
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(program, path=path)


def need(*programs: str) -> None:
    """
    Skip the test that runs, or fail it where ``CI=true``, if a program is missing, or a
    package of `EXTRA`, or of `LINUX`.
    """
    for program in programs:
        if program in LINUX and _files(program):
            continue
        there = EXTRA.get(program) or find(program)
        if there is None or not os.path.exists(there):  # noqa: PTH110
            package = PACKAGES.get(program, program)
            why = f"{program} is not there (package {package})"
            if os.environ.get("CI") == "true":
                raise AssertionError(why)
            raise unittest.SkipTest(why)


def install() -> int:
    """
    Install what is missing, and download `LINUX`; return 0, or 1 when it was tried and
    failed.
    """
    packages, downloads = missing(), missing_downloads()
    if not packages and not downloads:
        return 0
    if os.geteuid() != 0 or find("apt-get") is None:
        print(
            f"Not installed: {' '.join([*packages, *downloads])}; their tests are"
            " skipped. (Installing them takes root and apt.)"
        )
        return 0
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = [["apt-get", "update", "-qq"]]
    if packages:
        commands.append(
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
        )
    for command in commands:
        # tgt's package starts a service after its installation; nobody needs it here.
        done = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode and command[1] == "install":
            return 1
    for package in downloads:
        download(package)
    return 0


if __name__ == "__main__":
    sys.exit(install() if "--install" in sys.argv else bool(missing()))
