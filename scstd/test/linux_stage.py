# SPDX-License-Identifier: MIT
"""
Linux as an initiator, and a target for it: the stage of `scstd.test.linux_initiator`.

Linux reaches the target at 127.0.0.1, as the target says that it is to be reached: its
own loopback is down, so the way there is over the network card, and QEMU connects to
this machine's loopback for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scstd.test.linux import Guest, System, expect
from scstd.test.serving import Server, free_port

NAME = "iqn.2026-11.org.scstd"
_SCSTADMIN = "from scstd.management.cli.scstadmin import entry; entry()"
INITIATOR = f"{NAME}:linux"

_START = f"""\
mkdir -p /run/lock /var/lib
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
echo InitiatorName={INITIATOR} > /etc/iscsi/initiatorname.iscsi
iscsid
"""

_FUNCTIONS = f"""\
# The disk that is a LUN of a target's (last) session, when it is there.
disk() {{
  for try in $(seq 100); do
    for session in /sys/class/iscsi_session/*; do
      [ "$(cat $session/targetname)" = {NAME}:$1 ] || continue
      for block in $session/device/target*/*:*:*:$2/block/*; do
        [ -b /dev/${{block##*/}} ] && found=${{block##*/}}
      done
    done
    [ "$found" ] && echo $found && unset found && return
    sleep 0.1
  done
  echo no LUN $2 of $1; return 1
}}
# Wait until a command succeeds.
until_true() {{
  for try in $(seq 600); do
    eval "$1" > /dev/null 2>&1 && return
    sleep 0.1
  done
  echo never: "$1"; return 1
}}
# Write files, and remember what they are.
fill() {{
  for file in $(seq $2); do
    dd if=/dev/urandom of=$1/$file bs=1M count=2 conv=fsync 2>&1 | grep -i error
    md5sum $1/$file >> /tmp/sums
  done
  echo filled
}}
# Compare them with what is on the disk, without what is in memory.
compare() {{ sync; echo 3 > /proc/sys/vm/drop_caches; md5sum -c /tmp/sums; }}
"""


def system(directory: Path) -> System:
    """
    Return a Linux that is an iSCSI initiator.
    """
    return System(
        directory,
        ("open-iscsi", "libopeniscsiusr", "libisns0", "libkmod2", "dmsetup"),
        "virtio_pci virtio_net crc32c_intel iscsi_tcp sd_mod sg"
        " dm_multipath dm_round_robin",
        (
            *("iscsid", "iscsiadm", "mkfs.ext4", "e2fsck", "resize2fs"),
            *("sg_persist", "sg_inq", "dmsetup"),
        ),
        _START,
        {
            "functions": _FUNCTIONS,
            "etc/passwd": "root:x:0:0:root:/:/bin/sh\n",
            "etc/iscsi/iscsid.conf": "node.startup = manual\n",
        },
    )


@contextlib.contextmanager
def started(directory: Path) -> Iterator[Guest]:
    """
    Start that Linux.
    """
    linux = system(directory)
    with Guest(
        linux,
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-netdev", "user,id=net"),
        memory=384,
    ) as guest:
        yield guest


class Stage:
    """
    A target, and Linux as its initiator.

    *devices* are blocks of scst.conf by the names of their handlers, *targets* what is
    in the block of each target; two portals are there.
    """

    def __init__(
        self,
        guest: Guest,
        directory: Path,
        targets: dict[str, str],
        *,
        handler: str = "vdisk_fileio",
        devices: Sequence[str] = ("disk size=96M",),
    ) -> None:
        self.guest = guest
        self.directory = directory
        self.portals = [f"127.0.0.1:{free_port()}" for _each in range(2)]
        self._luns = sum(text.count("LUN ") for text in targets.values())
        lines = [f"HANDLER {handler} {{"]
        for device in devices:
            name, *attributes = device.split()
            lines.append(f"DEVICE {name} {{")
            if handler == "vdisk_fileio":
                lines.append(f"filename {name}.img")
            lines += [one.replace("=", " ", 1) for one in attributes] + ["}"]
        lines += ["}", "TARGET_DRIVER iscsi {", "enabled 1"]
        for name, text in targets.items():
            lines += [f"TARGET {NAME}:{name} {{", "enabled 1", text, "}"]
        (directory / "scst.conf").write_text("\n".join([*lines, "}", ""]))
        self.server = self._serve()
        guest.do("dmesg -c > /dev/null; rm -rf /etc/iscsi/nodes /tmp/sums")

    def _serve(self) -> Server:
        return Server(
            *("--config", "scst.conf", "--listen", self.portals[1]),
            directory=str(self.directory),
            luns=self._luns,
            listen=self.portals[0],
            wait_for="the control socket is",
        )

    def kill(self) -> None:
        """
        Kill the target, as a crash would end it.
        """
        self.server.process.kill()
        self.server.expect_kill()
        self.server.__exit__(None, None, None)

    def stop(self) -> None:
        """
        Stop the target as Ctrl-C does.
        """
        self.server.__exit__(None, None, None)

    def serve_again(self) -> None:
        """
        Start the target again, with what it remembers.
        """
        self.server = self._serve()

    def admin(self, *words: str) -> str:
        """
        Say something to the target's console tool; return what it answers.
        """
        done = subprocess.run(
            [
                *(sys.executable, "-c", _SCSTADMIN),
                *("-noprompt", *words),
            ],
            cwd=self.directory,
            env={**os.environ, "SCSTD_CONTROL": "state/control"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        print(f"$ scstadmin {' '.join(words)}\n{done.stderr}", end="", flush=True)
        if done.returncode:
            raise AssertionError(done.stderr)
        return done.stdout

    def set(self, target: str, attribute: str, value: object) -> None:
        """
        Change an attribute of a target.
        """
        self.admin("-set_tgt_attr", f"{NAME}:{target}", "-driver", "iscsi",
                   "-attributes", f"{attribute}={value}")  # fmt: skip

    def sessions(self) -> list[dict[str, Any]]:
        """
        Return what the target says about its sessions.
        """
        found: list[dict[str, Any]] = json.loads(self.admin("-list_sessions", "-json"))
        return found

    def login(
        self, target: str, settings: Mapping[str, object] | None = None, portal: int = 0
    ) -> str:
        """
        Log in with settings of open-iscsi's (without their ``node.``); return what
        iscsiadm says.
        """
        record = f"iscsiadm -m node -T {NAME}:{target} -p {self.portals[portal]}"
        commands = [f"{record} > /dev/null 2>&1 || {record} -o new"]
        for name, value in (settings or {}).items():
            commands.append(f"{record} -o update -n 'node.{name}' -v '{value}'")
        self.guest.do("\n".join(commands))
        return self.guest.shell(f"{record} --login 2>&1")

    def disk(self, target: str, lun: int = 0) -> str:
        """
        Return the name of the disk that a LUN is.
        """
        return self.guest.do(f"disk {target} {lun}").split()[-1]

    def logout(self) -> None:
        """
        End all sessions, and see that the target has none left, nor any task.
        """
        self.guest.do("iscsiadm -m node -U all")
        if found := self.sessions():
            raise AssertionError(f"left behind: {found}")
        expect("No active sessions", self.guest.shell("iscsiadm -m session 2>&1"))

    def __enter__(self) -> Stage:  # noqa: PYI034
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the target."""
        if exception[0] is not None:
            print(self.server.log())
            self.guest.shell("dmesg | tail -40")
        if self.server.process.poll() is None:
            self.server.__exit__(*exception)  # type: ignore[arg-type]
