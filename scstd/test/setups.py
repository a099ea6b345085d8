# SPDX-License-Identifier: MIT
"""
The kinds of LUN that libiscsi's conformance suite is run on, and which of its cases
have nothing to test on one (`scstd.test.suite`).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

_FILE = "vdisk_fileio:filename=disk.img:size=256M"

SETUPS: dict[str, tuple[str, int]] = {
    "plain": (f"{_FILE}:thin_provisioned=0", 1),
    "thin": (_FILE, 2),
    "removable": (f"{_FILE}:removable=1", 2),
    "4k": (f"{_FILE}:blocksize=4096", 2),
    "flat": (f"{_FILE}:lb_per_pb_exp=0", 2),
    "through": (f"{_FILE}:write_through=1", 2),
    "readonly": ("memory:size=256M:read_only=1", 2),
    "slow": ("memory:size=16M:filter=delay write=0.4", 1),
}
"""
Kinds of LUN: the device, and how many portals there are, each with a URL that the tool
is given.
"""

NEVER = {
    "iSCSI.iSCSITMF.LUNResetSimpleAsync": "the tool's own: it waits for what comes"
    " after it looks",
}
"""Cases that cannot pass, whatever the LUN, and why."""

_REMOVABLE = dict.fromkeys(
    ("SCSI.PreventAllow.*", "SCSI.StartStopUnit.*", "SCSI.NoMedia.*"),
    "wants a removable medium: set-up removable",
)
_WRITE_PROTECTED = {
    "SCSI.ReadOnly.*": "wants a write-protected medium: set-up readonly"
}
_THIN = dict.fromkeys(
    (
        "SCSI.Unmap.*",
        "SCSI.GetLBAStatus.*",
        "SCSI.Inquiry.BlockLimits",
        "SCSI.*.InvalidDataOutSize",
        "SCSI.WriteSame1?.*Unmap*",
        "SCSI.WriteSame1?.UnmapUntilEnd",
        "SCSI.CompareAndWrite.Unwritten",
        "SCSI.Sanitize.BlockErase*",
        "SCSI.Sanitize.CryptoErase",
        # These try it too.
        "SCSI.Sanitize.Readonly",
        "SCSI.Sanitize.Reservations",
    ),
    "wants thin provisioning: set-up thin",
)
_TWO_URLS = {"SCSI.MultipathIO.*": "wants two portals: set-up thin"}
_PHYSICAL = dict.fromkeys(
    ("SCSI.*.InvalidDataOutSize", "SCSI.WriteSame1?.UnmapUnaligned"),
    "wants several logical blocks in a physical one: set-up thin",
)
_NOT_PHYSICAL = {
    "SCSI.GetLBAStatus.UnmapSingle": "asks for LBA n+1 and expects n+8 where a physical"
    " block has eight: set-up flat"
}
_SMALL_BLOCKS = {
    "SCSI.ProutReserve.Access*": "the tool writes one block of 512 bytes, whatever the"
    " LUN's is: an eighth of one, which is refused (0E/03) as SCST does; mended in the tool's own"
    " later versions: set-up plain"
}
_FAST = {"SCSI.Sanitize.Reset": "wants a medium that takes its time: set-up slow"}

EXEMPT: dict[str, dict[str, str]] = {
    "plain": {**_REMOVABLE, **_WRITE_PROTECTED, **_THIN, **_TWO_URLS, **_FAST},
    "thin": {**_REMOVABLE, **_WRITE_PROTECTED, **_NOT_PHYSICAL, **_FAST},
    "removable": {**_WRITE_PROTECTED, **_NOT_PHYSICAL, **_FAST},
    "4k": {
        **_REMOVABLE,
        **_WRITE_PROTECTED,
        **_PHYSICAL,
        **_SMALL_BLOCKS,
        **_FAST,
    },
    "flat": {**_REMOVABLE, **_WRITE_PROTECTED, **_PHYSICAL, **_FAST},
    "through": {**_REMOVABLE, **_WRITE_PROTECTED, **_NOT_PHYSICAL, **_FAST},
    "readonly": {},
    "slow": {},
}
"""Cases that have nothing to test on a kind of LUN, and why."""


ONLY: dict[str, tuple[str, ...]] = {
    "flat": ("SCSI.GetLBAStatus.*", "SCSI.WriteSame*", "SCSI.Unmap.*"),
    "readonly": tuple(_WRITE_PROTECTED),
    "slow": tuple(_FAST),
}
"""The cases for which a kind of LUN is there; for the others all are."""

BRIEFLY: dict[str, tuple[str, ...]] = {
    **ONLY,
    "plain": (
        "SCSI.CompareAndWrite.*",
        "SCSI.Inquiry.*",
        "SCSI.ReadCapacity*",
        "SCSI.ReportSupportedOpcodes.*",
        "SCSI.Sanitize.*",
        "SCSI.WriteSame*",
        "iSCSI.*",
    ),
    "removable": (
        "SCSI.Inquiry.*",
        "SCSI.MultipathIO.*",
        "SCSI.NoMedia.*",
        "SCSI.PreventAllow.*",
        "SCSI.StartStopUnit.*",
        "SCSI.TestUnitReady.*",
    ),
    "4k": (
        "SCSI.CompareAndWrite.*",
        "SCSI.OrWrite.Simple",
        "SCSI.Read1?.*",
        "SCSI.ReadCapacity*",
        "SCSI.Sanitize.*",
        "SCSI.Unmap.*",
        "SCSI.Verify10.*",
        "SCSI.WriteSame1?.*",
        "SCSI.WriteVerify10.*",
        "SCSI.Write1?.*",
        "iSCSI.iSCSIResiduals.*",
    ),
    "through": (
        "SCSI.*.DpoFua",
        "SCSI.Mode*",
        "SCSI.Write10.*",
        "SCSI.WriteAtomic16.*",
        "SCSI.WriteSame10.*",
    ),
}
"""
The same for the tests: all of the cases on thin, and on the others those that the kind
of LUN makes a difference to; none of those that need not pass.
"""


def wanted_on(setup: str, names: Sequence[str], *, briefly: bool = False) -> list[str]:
    """
    Return those of the cases that are run on a kind of LUN.
    """
    patterns = (BRIEFLY if briefly else ONLY).get(setup, ("*",))
    return [
        name
        for name in names
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        and not (briefly and reason(name, setup))
    ]


def must_pass(case: str, setup: str) -> bool:
    """
    Say whether *case* has to pass on a LUN of the kind *setup*.
    """
    return not reason(case, setup)


def reason(case: str, setup: str) -> str:
    """
    Return why *case* need not pass on a LUN of the kind *setup*, or nothing.
    """
    for pattern, why in {**NEVER, **EXEMPT[setup]}.items():
        if fnmatch.fnmatchcase(case, pattern):
            return why
    return ""
