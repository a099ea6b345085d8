# SPDX-License-Identifier: MIT
"""
What SCST's tool does to the files below /sys/kernel/scst_tgt, in its own ways: it opens
them without truncating, writes once without a newline, and reads the first two lines.

``sysfs_steps.py TARGET`` is run where the tree is mounted there (`MountTests`).
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

ROOT = Path("/sys/kernel/scst_tgt")
IQN = sys.argv[1]
TARGET = f"targets/iscsi/{IQN}"


def write(path: str, text: str) -> int:
    """
    Write to a file; return the errno with which it was refused, or 0.
    """
    try:
        file = os.open(ROOT / path, os.O_WRONLY)
    except OSError as error:
        return error.errno or -1
    try:
        assert os.write(file, text.encode()) == len(text)
    except OSError as error:
        return error.errno or -1
    finally:
        os.close(file)
    return 0


def lines(path: str) -> list[str]:
    """
    Return the lines of a file.
    """
    return (ROOT / path).read_text().splitlines()


def mode(path: str) -> int:
    """
    Return the permissions of a file.
    """
    return stat.S_IMODE((ROOT / path).stat().st_mode)


def same(found: object, wanted: object) -> None:
    """
    See that something is as it is to be.
    """
    if found != wanted:
        raise SystemExit(f"{found!r}, not {wanted!r}")


def made() -> None:
    """
    Make a device, a target and groups.
    """
    for path, text in (
        ("handlers/memory/mgmt", "add_device d1 size=64M;tst=0;"),
        ("targets/iscsi/mgmt", f"add_target {IQN} "),
        ("targets/iscsi/mgmt", f"add_target_attribute {IQN} IncomingUser joe 12charsecret"),
        (f"{TARGET}/luns/mgmt", "add d1 0 "),
        (f"{TARGET}/ini_groups/mgmt", "create g"),
        (f"{TARGET}/ini_groups/g/luns/mgmt", "add d1 7 read_only=1;"),
        (f"{TARGET}/ini_groups/g/initiators/mgmt", "add iqn.2005-03.org.x:*"),
        (f"{TARGET}/ini_groups/g/addr_method", "FLAT\n"),
        ("device_groups/mgmt", "create dg"),
        ("device_groups/dg/devices/mgmt", "add d1"),
        ("device_groups/dg/target_groups/mgmt", "add tg"),
        ("device_groups/dg/target_groups/tg/mgmt", f"add {IQN}"),
        ("device_groups/dg/target_groups/tg/mgmt", "add far"),
        ("device_groups/dg/target_groups/tg/far/rel_tgt_id", "9\n"),
        ("threads", "5\n"),
        ("devices/d1/threads_num", "3"),
        (f"{TARGET}/enabled", "1"),
    ):  # fmt: skip
        same((path, write(path, text)), (path, 0))


def seen() -> None:
    """
    Look at them as the tool does.
    """
    for path, wanted in (
        (f"{TARGET}/IncomingUser", ["joe 12charsecret", "[key]"]),
        (f"{TARGET}/enabled", ["1"]),
        (f"{TARGET}/ini_groups/g/luns/7/read_only", ["1", "[key]"]),
        (f"{TARGET}/ini_groups/g/addr_method", ["FLAT", "[key]"]),
        ("device_groups/dg/target_groups/tg/group_id", ["0", "[key]"]),
        ("device_groups/dg/target_groups/tg/state", ["active", "[key]"]),
        ("device_groups/dg/target_groups/tg/far/rel_tgt_id", ["9", "[key]"]),
        ("devices/d1/size_mb", ["64"]),
    ):
        same((path, lines(path)), (path, wanted))
    same(lines("threads")[0], "5")
    same(lines("version")[0][:2], "3.")
    for path, wanted_link in (
        (f"{TARGET}/luns/0/device", "../../../../../devices/d1"),
        (f"device_groups/dg/target_groups/tg/{IQN}", f"../../../../{TARGET}"),
        ("devices/d1/handler", "../../handlers/memory"),
        ("devices/d1/exported/export0", f"../../../{TARGET}/luns/0"),
        ("devices/d1/exported/export1", f"../../../{TARGET}/ini_groups/g/luns/7"),
    ):
        same((path, str((ROOT / path).readlink())), (path, wanted_link))
        same((ROOT / path).is_dir(), True)
    for path, bits in (
        (f"{TARGET}/IncomingUser", 0o600),
        (f"{TARGET}/QueuedCommands", 0o644),
        (f"{TARGET}/read_cmd_count", 0o444),
        ("devices/d1/tst", 0o444),
        ("devices/d1/resync_size", 0o200),
        ("last_sysfs_mgmt_res", 0o444),
    ):
        same((path, oct(mode(path))), (path, oct(bits)))
    for directory in ("targets/iscsi", TARGET):
        same((ROOT / directory / "OutgoingUser") in (ROOT / directory).iterdir(), False)
    (names,) = (
        line.partition(": ")[2]
        for line in lines("targets/iscsi/mgmt")
        if line.startswith("The following target attributes available: ")
    )
    same(names, "IncomingUser, OutgoingUser, allowed_portal")


def refused() -> None:
    """
    Make mistakes: each has its number, as far as sshfs can say it.
    """
    for path, text, number, kept in (
        ("nothing", "1", errno.ENOENT, 0),
        ("devices/d9/size", "1", errno.ENOENT, 0),
        ("devices/d1/tst", "1", errno.EACCES, 0),
        ("last_sysfs_mgmt_res", "1", errno.EACCES, 0),
        ("handlers/memory/mgmt", "add_device d1 size=1M;", errno.EIO, errno.EEXIST),
        ("handlers/memory/mgmt", "del_device d1", errno.EIO, errno.EBUSY),
        ("handlers/memory/mgmt", "del_device d9", errno.EIO, errno.ENOENT),
        (f"{TARGET}/QueuedCommands", "x", errno.EIO, errno.EINVAL),
        (f"{TARGET}/QueuedCommands", "\n", errno.EIO, errno.EINVAL),
        (f"{TARGET}/luns/mgmt", "add d1 0 ", errno.EIO, errno.EEXIST),
    ):
        same((path, text, write(path, text)), (path, text, number))
        if kept:
            same(lines("last_sysfs_mgmt_res"), [str(kept)])
    same(lines(f"{TARGET}/QueuedCommands")[0], "32")


def unmade() -> None:
    """
    Take all away, as the tool clears a configuration.
    """
    for path, text in (
        ("device_groups/dg/target_groups/mgmt", "del tg"),
        ("device_groups/dg/devices/mgmt", "del d1"),
        ("device_groups/mgmt", "del dg"),
        (f"{TARGET}/ini_groups/g/initiators/mgmt", "clear"),
        (f"{TARGET}/ini_groups/g/luns/mgmt", "clear"),
        (f"{TARGET}/ini_groups/mgmt", "del g"),
        (f"{TARGET}/luns/mgmt", "clear"),
        ("targets/iscsi/mgmt", f"del_target_attribute {IQN} IncomingUser joe"),
        (f"{TARGET}/enabled", "0"),
        ("targets/iscsi/mgmt", f"del_target {IQN}"),
        ("handlers/memory/mgmt", "del_device d1"),
    ):
        same((path, write(path, text)), (path, 0))
    # The kernel finds by its path for a second what is in no listing any more.
    same((ROOT / TARGET) in (ROOT / "targets/iscsi").iterdir(), False)
    same((ROOT / "devices/d1") in (ROOT / "devices").iterdir(), False)


if __name__ == "__main__":
    for part in (made, seen, refused, unmade):
        part()
    print("done")
