# SPDX-License-Identifier: MIT
"""
What decodes our answers that we have not written, and the answers it is given: for
`scstd.test.test_decoders`.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from pyscsi.pyscsi.scsi_cdb_getlbastatus import GetLBAStatus
from pyscsi.pyscsi.scsi_cdb_inquiry import Inquiry
from pyscsi.pyscsi.scsi_cdb_readcapacity10 import ReadCapacity10
from pyscsi.pyscsi.scsi_cdb_readcapacity16 import ReadCapacity16

from scstd.scsi.copy import limits
from scstd.scsi.unit import LogicalUnit
from scstd.test.clients import find
from scstd.test.initiator import TARGET
from scstd.test.serving import PATIENCE

Fields = Mapping[str, Any]


Decode = Callable[[bytes, Path], Fields]


def output(*command: str) -> str:
    """Return what a program prints; it has to succeed."""
    tool = find(command[0])
    assert tool is not None
    done = subprocess.run(
        [tool, *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert not done.returncode, (command, done.stdout, done.stderr)
    assert not done.stderr, (command, done.stderr)
    return done.stdout


def fields(text: str) -> dict[str, str]:
    """
    Return what ``name: value``, ``name = value`` and ``NAME=value`` say in a text, the
    first of each name; ``text`` is all of it.
    """
    found = {"text": text}
    for line in text.splitlines():
        pairs = re.findall(r"\[?([A-Za-z_0-9]+)=(\S+?)\]?(?=\s|,|$)", line)
        whole = re.fullmatch(r"\s*(.+?)(?:: | = |=)\s*(.*?)\s*", line)
        if whole is not None:
            pairs.append((whole[1], whole[2]))
        for name, value in pairs:
            found.setdefault(name, value)
    return found


def program(*command: str) -> Decode:
    """
    Return a decoder: a program that reads hex digits from the file named behind these
    words.
    """

    def decode(data: bytes, path: Path) -> Fields:
        path.write_text(data.hex(" ") + "\n")
        return fields(output(*command[:-1], command[-1] + str(path)))

    return decode


sg_inq = program("sg_inq", "--descriptors", "--inhex=")


sg_logs = program("sg_logs", "--in=")


def sg_vpd(data: bytes, path: Path) -> Fields:
    """Decode a VPD page."""
    return program("sg_vpd", f"--page={data[1]:#x}", "--inhex=")(data, path)


def sdparm(data: bytes, path: Path) -> Fields:
    """Decode what MODE SENSE(10) answers."""
    path.write_text(data.hex(" ") + "\n")
    text = output("sdparm", "--all", f"--inhex={path}")
    return {"text": text, **dict(re.findall(r"^  (\S+)\s+(-?\d+)", text, re.MULTILINE))}


def python_scsi(kind: Any, **how: Any) -> Decode:
    """Return a decoder of python-scsi's."""

    def decode(data: bytes, path: Path) -> Fields:
        found: Fields = kind.unmarshall_datain(bytearray(data), **how)
        return found

    return decode


def sg_luns(data: bytes, path: Path) -> Fields:
    """Decode each LUN that REPORT LUNS lists."""
    luns = [data[at : at + 8].hex() for at in range(8, len(data), 8)]
    texts = [output("sg_luns", f"--test={lun}") for lun in luns]
    return {"luns": [int(re.findall(r"lun=(\d+)", text)[-1]) for text in texts]}


@attrs.frozen
class Case:
    """
    One row: what it is, the command, who decodes its data, and what the unit says that
    the fields are.
    """

    name: str
    cdb: bytes
    decode: Decode
    expected: Callable[[LogicalUnit], Fields]


def inquiry(code: int | None = None) -> bytes:
    """Return the CDB of an INQUIRY."""
    return struct.pack(">BBBHx", 0x12, code is not None, code or 0, 2048)


def page(code: int, expected: Callable[[LogicalUnit], Fields]) -> Case:
    """Return a case of a VPD page."""
    return Case(f"VPD {code:02X}h", inquiry(code), sg_vpd, expected)


def modes(
    code: int, expected: Callable[[LogicalUnit], Fields], subpage: int = 0
) -> Case:
    """Return a case of a mode page."""
    cdb = struct.pack(">BBBBxxxHx", 0x5A, 0, code, subpage, 2048)
    return Case(f"mode page {code:02X}h/{subpage:02X}h", cdb, sdparm, expected)


def logged(
    code: int, expected: Callable[[LogicalUnit], Fields], subpage: int = 0
) -> Case:
    """Return a case of a log page."""
    cdb = struct.pack(">BBBBxHHx", 0x4D, 0, 0x40 | code, subpage, 0, 2048)
    name = f"log page {code:02X}h" + (f"/{subpage:02X}h" if subpage else "")
    return Case(name, cdb, sg_logs, expected)


def errors(length: int, uncorrected: int = 0) -> Callable[[LogicalUnit], Fields]:
    """Return what an error counter page says."""
    return lambda _unit: {
        "Total bytes processed": str(length),
        "Total errors corrected": "0",
        "Total uncorrected errors": str(uncorrected),
    }


def has(*texts: str) -> Fields:
    """Return fields that say that these texts are in the output."""
    return {"text": list(texts)}


CASES = (
    Case(
        "INQUIRY",
        inquiry(),
        sg_inq,
        lambda unit: {
            "PQual": "0",
            "PDT": "0",
            "RMB": "1",
            "version": "0x06",
            "Resp_data_format": "2",
            "MultiP": "1",
            "CmdQue": "1",
            "length": "96",
            "Vendor identification": unit.vendor,
            "Product identification": unit.product,
            "Product revision level": unit.revision,
            **has("SAM-5 (no", "SPC-4 (no", "SBC-3 (no", "iSCSI RFC 7143"),
        },
    ),
    Case(
        "INQUIRY, python-scsi",
        inquiry(),
        python_scsi(Inquiry),
        lambda unit: {
            "peripheral_device_type": 0,
            "rmb": 1,
            "additional_length": 91,
            "t10_vendor_identification": unit.vendor.encode().ljust(8),
            "product_identification": unit.product.encode().ljust(16),
        },
    ),
    page(
        0x00,
        lambda unit: has(
            "Supported VPD pages [sv]",
            "Device identification [di]",
            "Block limits (SBC) [bl]",
        ),
    ),
    page(0x80, lambda unit: {"Unit serial number": unit.identity.serial}),
    page(
        0x83,
        lambda unit: has(
            f"0x{unit.identity.naa.hex()}",
            f"vendor id: {unit.vendor.ljust(8)}\n"
            f"      vendor specific: {unit.identity.t10}",
            "Locally assigned UUID: "
            + re.sub(
                r"(.{8})(.{4})(.{4})(.{4})", r"\1-\2-\3-\4-", unit.identity.uuid.hex()
            ),
            f"naa.{unit.identity.naa.hex().upper()}",
            f"0x{unit.identity.eui64.hex()}",
            f"vendor specific: {unit.identity.vendor_specific}",
            "Relative target port: 0x1",
            f"{TARGET},t,0x0001",
            "Target device that contains addressed lu:",
        ),
    ),
    page(
        0x85,
        lambda unit: has("storage configuration service", unit.management_url),
    ),
    page(
        0x86,
        lambda unit: {
            "HEADSUP": "1",
            "ORDSUP": "1",
            "SIMPSUP": "1",
            "V_SUP": "1",
            "LUICLR": "1",
            "GROUP_SUP": "0",
            "Extended self-test completion minutes": "1",
        },
    ),
    page(0x87, lambda unit: has("applies to all modes pages", "Policy: shared")),
    page(0x88, lambda unit: {"Relative port": "1", **has(f"{TARGET},t,0x0001")}),
    page(
        0x8F,
        lambda unit: {
            "Maximum range descriptors": str(limits.MOST_RANGES),
            "Maximum token transfer size": str(
                limits.MOST_TOKEN_BYTES >> unit.block_shift
            ),
            "Maximum CSCD descriptor count": str(limits.MOST_CSCDS),
            "Maximum token lifetime": f"{limits.MOST_LIFETIME} seconds",
            **has("Extended copy(LID1)", "Populate token", "change vulnerable"),
        },
    ),
    page(
        0xB0,
        lambda unit: {
            "Write same non-zero (WSNZ)": "0",
            "Maximum compare and write length": f"{unit.volume.limits.max_compared} blocks",
            "Maximum transfer length": f"{unit.volume.limits.max_blocks} blocks",
            "Optimal transfer length": f"{unit.volume.limits.optimal_blocks} blocks",
            "Maximum unmap LBA count": str(unit.volume.limits.max_unmapped),
            "Maximum unmap block descriptor count": str(
                unit.volume.limits.max_descriptors
            ),
            "Optimal unmap granularity": f"{unit.volume.unmap_granularity >> 9} blocks",
        },
    ),
    page(
        0xB1,
        lambda unit: {
            "Nominal rotation rate": "7200 rpm",
            "Product type": "Not specified",
            "WABEREQ": "1",
            "FUAB": "1",
            "VBULS": "1",
        },
    ),
    page(
        0xB2,
        lambda unit: {
            "Unmap command supported (LBPU)": "1",
            "Write same (16) with unmap bit supported (LBPWS)": "1",
            "Logical block provisioning read zeros (LBPRZ)": "1",
            "Provisioning type": "2 (thin provisioned)",
        },
    ),
    Case(
        "READ CAPACITY(10)",
        b"\x25" + bytes(9),
        python_scsi(ReadCapacity10),
        lambda unit: {
            "returned_lba": unit.blocks - 1,
            "block_length": unit.block_size,
        },
    ),
    Case(
        "READ CAPACITY(16)",
        struct.pack(">BBQIxx", 0x9E, 0x10, 0, 32),
        python_scsi(ReadCapacity16),
        lambda unit: {
            "returned_lba": unit.blocks - 1,
            "block_length": unit.block_size,
            "lbppbe": unit.volume.physical_exponent,
            "lbpme": 1,
            "lbprz": 1,
            "lowest_aligned_lba": 0,
            "prot_en": 0,
        },
    ),
    Case(
        "GET LBA STATUS",
        struct.pack(">BBQIxx", 0x9E, 0x12, 0, 24),
        python_scsi(GetLBAStatus),
        # The page that was written at the beginning.
        lambda _unit: {"lbas": [{"lba": 0, "num_blocks": 8, "p_status": 0}]},
    ),
    Case(
        "REPORT LUNS",
        struct.pack(">BxBxxxIxx", 0xA0, 0, 2048),
        sg_luns,
        lambda unit: {"luns": [0, 7, 255, 256, 300, 16383]},
    ),
    modes(
        0x01,
        lambda unit: {"AWRE": "0", "RRC": "0", **has("Read write error recovery")},
    ),
    modes(0x02, lambda unit: {"BFR": "0", "FBS": "0"}),
    modes(
        0x03,
        lambda unit: {"SPT": "32", "TPZ": "64", "DBPPS": "512", "HSEC": "1"},
    ),
    modes(
        0x04,
        lambda unit: {
            "NOC": str(unit.blocks // 2048),
            "NOH": "64",
            "MRR": "7200",
        },
    ),
    modes(0x07, lambda unit: {"V_PER": "0", "V_RC": "0"}),
    modes(0x08, lambda unit: {"WCE": "1", "RCD": "0", "DRA": "0"}),
    modes(
        0x0A,
        lambda unit: {
            "TST": "1",
            "D_SENSE": "0",
            "GLTSD": "1",
            "QAM": "1",
            "QERR": "3",
            "SWP": "0",
            "TAS": "1",
            "ESTCT": "60",
        },
    ),
    modes(0x0A, lambda unit: {"TCMOS": "1", "SCSIP": "1"}, 0x01),
    modes(0x18, lambda unit: {"LUPID": "5"}),
    modes(0x19, lambda unit: {"PPID": "5"}),
    modes(0x1A, lambda unit: {"STANDBY_Y": "0", "IDLE_A": "0"}),
    modes(0x1C, lambda unit: {"DEXCPT": "1", "MRIE": "0"}),
    modes(0x1C, lambda unit: {"SITUA": "0"}, 0x02),
    logged(0x00, lambda unit: has("Supported log pages [sp]", "Self test results")),
    logged(0x02, errors(3 * 512)),
    logged(0x03, errors(8 * 512)),
    logged(0x05, errors(4 * 512)),
    logged(0x06, lambda unit: {"Non-medium error count": "0"}),
    logged(
        0x0C,
        lambda unit: {
            "Available LBA mapping threshold resource count": "7168",
            "Used LBA mapping threshold resource count": "3072",
            "Scope": "not dedicated to lu",
        },
    ),
    logged(0x0D, lambda unit: {"Current temperature": "<not available>"}),
    logged(0x0E, lambda unit: {"Accumulated start-stop cycles": "1"}),
    logged(0x0E, lambda unit: has("Workload utilization: 0.00 %"), 0x01),
    logged(
        0x10,
        lambda unit: has(
            "self-test code: foreground extended [6]",
            "self-test result: completed without error [0]",
            "Parameter code = 2",
        ),
    ),
    logged(
        0x19,
        lambda unit: {
            "number of read commands": "1",
            "number of write commands": "2",
            "number of logical blocks received": "3",
            "number of logical blocks transmitted": "8",
        },
    ),
    logged(0x2F, lambda unit: {"IE asc": "0x0, ascq = 0x0"}),
)
