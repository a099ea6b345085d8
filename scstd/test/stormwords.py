# SPDX-License-Identifier: MIT
"""
What is said in a storm (`scstd.test.storm`): what people write to the tree and to files,
and what initiators ask for.
"""

from __future__ import annotations

import random

IQN = "iqn.2026-11.org.scstd:"

WORDS = {
    "d": ["d0", "d1", "d2", "d3"],
    "t": [f"{IQN}x", f"{IQN}y"],
    "g": ["g", "h"],
    "i": [f"{IQN}i0", f"{IQN}i1", f"{IQN}i2", "*"],
    "dg": ["dg", "eg"],
    "tg": ["a", "b"],
    "p": [f"{IQN}x", f"{IQN}y", f"{IQN}far"],
    "lun": ["0", "1", "2", "300"],
    "n": ["1", "2", "3"],
    "b": ["0", "1"],
    "size": ["1M", "2M", "3M", "1000"],
    "state": ["active", "nonoptimized", "standby", "unavailable", "offline"],
    "portal": ["127.0.0.1:1000", "127.0.0.1:1001", "127.0.0.1:1002"],
    "how": ["", "size=1M", "size=2M", "size=1M; tst=0", 'size=1M; filter="delay write=1 flush=1"',
            'size=1M; filter="error on=write after=3"', "size=1M; max_tgt_dev_commands=2",
            "size=1M; expl_alua=1", "size=1M; usn=7"],
}  # fmt: skip
"""What stands for the words in braces."""

_T, _G, _D = "targets/iscsi/{t}", "targets/iscsi/{t}/ini_groups", "device_groups/{dg}"
_L = ("luns/mgmt", "ini_groups/{g}/luns/mgmt")

CHANGES = (
    *[("handlers/memory/mgmt", "add_device {d} {how}")] * 4,
    ("handlers/memory/mgmt", "del_device {d}"),
    *[("handlers/memory/mgmt", "del_device {d} force=1")] * 2,
    *[("devices/{d}/size", "{size}"), ("devices/{d}/resync_size", "1")],
    *[("devices/{d}/usn", "{n}"), ("devices/{d}/prod_id", "{n}"), ("devices/{d}/sync", "1")],
    *[("devices/{d}/read_only", "{b}"), ("devices/{d}/tst", "{b}")],
    *[("devices/{d}/block", "1"), ("devices/{d}/block", "11 x"), ("devices/{d}/block", "0")],
    *[("suspend", "0"), ("suspend", "2"), ("suspend", "-1"), ("suspend", "-1")],
    *[("targets/iscsi/mgmt", "add_target {t} enabled=1")] * 2,
    ("targets/iscsi/mgmt", "add_target {t} rel_tgt_id={n}"),
    ("targets/iscsi/mgmt", "del_target {t}"),
    *[("targets/iscsi/enabled", "1")] * 2, ("targets/iscsi/enabled", "{b}"),
    *[("targets/iscsi/mgmt", "add_attribute portal {portal}")] * 2,
    ("targets/iscsi/mgmt", "del_attribute portal {portal}"),
    *[(f"{_T}/enabled", "1"), (f"{_T}/enabled", "{b}"), (f"{_T}/rel_tgt_id", "{n}")],
    *[(f"{_T}/QueuedCommands", "{n}"), (f"{_T}/addr_method", "FLAT"), (f"{_T}/alias", "{n}")],
    *[(f"{_T}/DefaultTime2Retain", "{n}"), (f"{_T}/ErrorRecoveryLevel", "2")],
    *[(f"{_T}/MaxConnections", "{n}"), (f"{_T}/LogoutTimeout", "{n}")],
    *[(f"{_T}/RspTimeout", "3"), (f"{_T}/NopInInterval", "{n}"), (f"{_T}/NopInTimeout", "{n}")],
    *[(f"{_T}/{luns}", "add {d} {lun}") for luns in _L * 3],
    *[(f"{_T}/{luns}", "add {d} {lun} read_only=1") for luns in _L],
    *[(f"{_T}/{luns}", f"replace{quiet} {{d}} {{lun}}") for luns in _L for quiet in ("", "_no_ua")],
    *[(f"{_T}/{luns}", "del {lun}") for luns in _L], *[(f"{_T}/{luns}", "clear") for luns in _L],
    *[(f"{_G}/mgmt", "create {g}"), (f"{_G}/mgmt", "del {g}"), (f"{_G}/mgmt", "order h g")],
    *[(f"{_G}/{{g}}/initiators/mgmt", f"{verb} {{i}}") for verb in ("add", "add", "del")],
    *[(f"{_G}/g/initiators/mgmt", "move {i} h"), (f"{_G}/{{g}}/initiators/mgmt", "clear")],
    *[(f"{_T}/sessions/{{i}}/force_close", "1")] * 2,
    *[("device_groups/mgmt", "create {dg}")] * 2, ("device_groups/mgmt", "del {dg}"),
    *[(f"{_D}/devices/mgmt", f"{verb} {{d}}") for verb in ("add", "add", "del")],
    *[(f"{_D}/target_groups/mgmt", f"{verb} {{tg}}") for verb in ("create", "create", "del")],
    *[(f"{_D}/target_groups/{{tg}}/mgmt", f"{verb} {{p}}") for verb in ("add", "add", "del")],
    (f"{_D}/target_groups/{{tg}}/mgmt", "add {p} rel_tgt_id={n}"),
    (f"{_D}/target_groups/{{tg}}/{IQN}far/rel_tgt_id", "{n}"),
    *[(f"{_D}/target_groups/{{tg}}/state", "{state}")] * 3,
    (f"{_D}/target_groups/{{tg}}/group_id", "{n}"), (f"{_D}/transition_time", "{n}"),
    *[("trace_level", "all"), ("trace_level", "none"), ("measure_latency", "{b}")],
)  # fmt: skip
"""What is written where."""

COMMANDS = (
    *[("000000000000", 0, b""), ("120000006000", 96, b"")],
    *[("a00000000000000001000000", 256, b""), ("35000000000000000000", 0, b"")] * 2,
    *[("160000000000", 0, b""), ("170000000000", 0, b"")],
    *[("1d0400000000", 0, b""), ("a30a00000000000001000000", 256, b"")],
    ("a40a00000000000000080000", 0, b"\0\0\0\0\1\0\0\1"),
    ("5e000000000000010000", 256, b""),
    ("5f060000000000001800", 0, bytes(8) + b"\0\0\0\0\0\0\0\7" + bytes(4) + b"\1\0\0\0"),
    ("5f010100000000001800", 0, b"\0\0\0\0\0\0\0\7" + bytes(16)),
    ("5f030000000000001800", 0, b"\0\0\0\0\0\0\0\7" + bytes(16)),
    ("42000000000000001800", 0, b"\0\x16\0\x10" + bytes(4) + b"\0\0\0\0\0\0\4\0\0\0\1\0" + bytes(4)),
    *[("1d2000000000", 0, b""), ("1d4000000000", 0, b""), ("1d8000000000", 0, b"")],
    ("5f050300000000001800", 0, b"\0\0\0\0\0\0\0\7" * 2 + bytes(8)),
    ("151000001000", 0, bytes(4) + b"\x0a\x0a\0\2\0\x40" + bytes(6)),
    ("4d00400000000000ff00", 255, b""), ("030000001200", 18, b""),
    ("89000000000000000400000000010000", 0, bytes(1024)),
    ("9c000000000000000400000000010000", 0, bytes(512)),
    ("8b000000000000000400000000010000", 0, bytes(512)),
    ("8f000000000000000400000000010000", 0, b""), ("34000000000000000000", 0, b""),
    ("93080000000000000400000000100000", 0, bytes(512)),
    ("83110000000000000000000000200000", 0, bytes((0, 30, 0, 0, 0, 0, 0, 60)) + bytes(6) + b"\0\x10" + b"\0\0\0\0\0\0\4\0\0\0\0\x10" + bytes(4)),
    ("040000000000", 0, b""), ("48820000000000000000", 0, b""),
    ("1a003f00ff00", 255, b""), ("1b0000000000", 0, b""), ("1b0000000100", 0, b""),
)  # fmt: skip
"""CDBs that change no block which is read back; how much they read, what they write."""


def configuration(rng: random.Random) -> str:
    """
    Return a file for `scstd.management.config.reading`.
    """

    def some(words: str, most: float = 0.8) -> list[str]:
        return [one for one in WORDS[words] if rng.random() < most]

    def luns() -> str:
        return "".join(
            f"LUN {lun} {rng.choice(devices)}\n" for lun in some("lun") if devices
        )

    devices = some("d")
    text = "HANDLER memory {\n"
    for name in devices:
        given = rng.choice(WORDS["how"][1:]).replace('"', "").split("; ")
        lines = [one.replace("=", " ", 1) for one in given if "usn" not in one]
        lines = [
            f'filter "{one[7:]}"' if one.startswith("filter") else one for one in lines
        ]
        text += f"DEVICE {name} {{\n" + "\n".join(lines) + "\n}\n"
    text += f"}}\nTARGET_DRIVER iscsi {{\nenabled {int(rng.random() < 0.9)}\n"
    text += "".join(f"portal {one}\n" for one in some("portal", 0.3))
    for number, name in enumerate(some("t")):
        text += f"TARGET {name} {{\nenabled {int(rng.random() < 0.9)}\n{luns()}"
        if rng.random() < 0.3:
            text += f"rel_tgt_id {number + rng.randint(1, 2)}\n"
        for group in some("g", 0.4):
            who = "".join(f"INITIATOR {one}\n" for one in some("i", 0.3))
            text += f"GROUP {group} {{\n{who}{luns()}}}\n"
        text += "}\n"
    text += "}\n"
    if devices and rng.random() < 0.5:
        text += f"DEVICE_GROUP dg {{\nDEVICE {devices[0]}\nTARGET_GROUP a {{\n"
        text += f"state {rng.choice(WORDS['state'])}\nTARGET {IQN}x\n}}\n}}\n"
    return text
