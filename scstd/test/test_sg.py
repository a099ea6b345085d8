# SPDX-License-Identifier: MIT
"""
The tools of sg3_utils against a target: their decoders read what we send, in full.

They want a SCSI generic device of the kernel's; a small library (sgio.c), preloaded,
gives them a LUN of ours instead.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from twisted.trial.unittest import TestCase

from scstd.test.clients import find, need
from scstd.test.serving import PATIENCE, Server

SOURCE = Path(__file__).with_name("sgio.c")
DEVICE = "/dev/sgio"
FLAGS = ("-Wall", "-Werror", "-shared", "-fPIC")
LIBRARIES = ("-liscsi", "-ldl")

CONFIGURATION = """\
HANDLER memory {
    DEVICE one {
        size 64M
        expl_alua 1
    }
    DEVICE two {
        size 64M
    }
}
TARGET_DRIVER iscsi {
    enabled 1
    TARGET iqn.2026-11.org.scstd:sg {
        enabled 1
        rel_tgt_id 7
        LUN 0 one
        LUN 1 two
    }
}
DEVICE_GROUP group {
    DEVICE one
    TARGET_GROUP here {
        group_id 258
        state active
        preferred 1
        TARGET iqn.2026-11.org.scstd:sg
    }
    TARGET_GROUP there {
        group_id 513
        state standby
        TARGET iqn.2026-11.org.scstd:elsewhere {
            rel_tgt_id 99
        }
    }
}
"""

PLAIN: tuple[tuple[str, str], ...] = (
    ("sg_turs", r"^$"),
    ("sg_inq", r"TPGS=3 +3PC=1 .*Vendor identification: SCSTD"),
    ("sg_vpd -p sv", r"Device identification.*Third party copy.*Block limits"),
    (
        "sg_vpd -p di",
        r"NAA.*0x6025c57.*Relative target port: 0x7.*sg,t,0x0001.*group: 0x102",
    ),
    ("sg_vpd -p bl", r"Maximum compare and write length: 255 blocks"),
    ("sg_vpd -p bdc", r"Nominal rotation rate: 7200 rpm"),
    ("sg_vpd -p lbpv", r"LBPU\): 1.*LBPWS\): 1"),
    ("sg_vpd -p tpc", r"Populate token.*block -> block.*Total concurrent copies: 64"),
    ("sg_readcap", r"Last LBA=131071 .*Logical block length=512"),
    ("sg_readcap -l", r"lbpme=1, lbprz=1"),
    ("sg_luns -d", r"Lun list length = 16 .*lun=0.*lun=1"),
    ("sg_luns -s 1", r"c101000000000000"),
    ("sg_rtpg -d", r"target port group id : 0x102 , Pref=1.*active/optimized"),
    ("sg_rtpg -d", r"target port group id : 0x201 , Pref=0.*standby.*0x63"),
    ("sg_rtpg -d -e", r"target port group id : 0x201"),
    ("sg_opcodes", r"Persistent reserve in.*Compare and write.*Report target port"),
    ("sg_opcodes -t", r"Task Management Functions supported.*Logical unit reset"),
    ("sg_modes -a", r"Caching.*Control"),
    ("sg_persist --in -c", r"PTPL_C\): 1.*Exclusive Access, all registrants: 1"),
    ("sg_persist --out --register --param-sark=abc", r""),
    ("sg_persist --out --reserve --param-rk=abc --prout-type=5", r""),
    ("sg_persist --in -k", r"1 registered reservation key follows:\s+0xabc"),
    ("sg_persist --in -r", r"Key=0xabc.*Write Exclusive, registrants only"),
    (
        "sg_persist --in -s",
        r"Key=0xabc.*Relative port address: 0x7.*<< Reservation holder >>.*sgio,i,0x",
    ),
    ("sg_persist --out --clear --param-rk=abc", r""),
    ("sg_persist --in -k", r"there are NO registered reservation keys"),
    ("sg_requests", r"No additional sense information|^\s*$"),
    ("sg_write_same --16 --lba=8 --num=16 --xferlen=512 --in=/dev/zero", r""),
    ("sg_unmap --lba=8 --num=16 --force", r""),
    ("sg_get_lba_status --lba=0", r"LBA: 0x0000000000000000  blocks: +131072"),
    ("sg_sync", r""),
    ("sg_verify --lba=0 --count=8", r""),
    ("sg_raw -r 512 - 28 00 00 00 00 00 00 00 01 00", r"SCSI Status: Good"),
    ("sg_stpg --active", r""),
)
"""What is run, and what it has to print."""


class ToolTests(TestCase):
    """
    One tool after the other.
    """

    timeout = 180

    def setUp(self) -> None:
        """Build the library and write the configuration."""
        need("cc", "sg_inq")
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.library = self.directory / "sgio.so"
        compiler = find("cc")
        assert compiler is not None
        subprocess.run(
            [compiler, "-O1", *FLAGS, "-o", str(self.library), str(SOURCE), *LIBRARIES],
            check=True,
        )
        (self.directory / "scst.conf").write_text(CONFIGURATION)

    def run_tool(self, url: str, line: str) -> str:
        """Return what a tool prints, or why it failed; ``-`` stands for the device."""
        words = line.split() if " - " in line else [*line.split(), "-"]
        program = find(words[0])
        assert program is not None, line
        done = subprocess.run(
            [program, *(DEVICE if word == "-" else word for word in words[1:])],
            env={
                **os.environ,
                "LD_PRELOAD": str(self.library),
                "SGIO_URL": url,
                "SGIO_DEVICE": DEVICE,
            },
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
        said = done.stdout + done.stderr
        return said if not done.returncode else f"FAILED {done.returncode}: {said}"

    def test_tools(self) -> None:
        """Each prints what is so."""
        wrong = []
        with Server(
            "--config", "scst.conf", directory=str(self.directory), luns=2
        ) as server:
            for line, wanted in PLAIN:
                said = self.run_tool(server.url, line)
                found = re.search(wanted, said, re.DOTALL | re.MULTILINE)
                if said.startswith("FAILED") or found is None:
                    wrong.append(f"{line}: {wanted}: {said}")
        self.assertEqual(wrong, [], "\n".join(wrong))
