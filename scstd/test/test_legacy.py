# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.converters.legacy` and `scstd.daemon`: files and options of the first
iSCSI-SCST.  The files here are our own, in its grammar.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from scstd import daemon
from scstd.attributes import ConfigurationError
from scstd.management.cli import scstadmin, tools
from scstd.management.config.reading import read
from scstd.management.converters.legacy import convert, is_legacy
from scstd.management.model.configuration import Configuration
from scstd.test.clients import need
from scstd.test.serving import PATIENCE

NAME = "iqn.2007-05.com.example:storage.disk1.sys1.xyz"
OTHER = "iqn.2007-05.com.example:storage.disk2"

ISCSI = f"""\
# Who may discover
IncomingUser scout verysecretscout
iSNSServer 192.0.2.7
iSNSAccessControl Yes

Target {NAME}
    IncomingUser joe joes-own-secret
    IncomingUser ann anns-own-secret
    OutgoingUser us our-other-secret
    Lun 0 Path=/dev/sdc,Type=fileio
    Alias Test
    MaxConnections 1
    InitialR2T Yes
    HeaderDigest CRC32C, None
    MaxBurstLength 262144
    QueuedCommands 8
Target {OTHER}
"""

CORE = f"""\
[HANDLER vdisk]
#DEVICE <name>,<path>,<options>,<block size>
DEVICE disk1,{{directory}}/disk1.img,WRITE_THROUGH|RO,4096
DEVICE null,,NULLIO
DEVICE shared,{{directory}}/shared.img,

[GROUP Default]
[GROUP Default_{NAME}]
[GROUP hosts]
USER iqn.2005-03.org.open-iscsi:*
USER iqn.1991-05.com.microsoft:host

[ASSIGNMENT Default]
DEVICE shared,0
[ASSIGNMENT Default_{NAME}]
DEVICE disk1,0
DEVICE null,5,READ_ONLY
[ASSIGNMENT hosts]
DEVICE shared,1
"""


class LegacyTests(SynchronousTestCase):
    """
    Old files made into today's.
    """

    def setUp(self) -> None:
        """Write the files."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.iscsi = self.directory / "iscsi-scstd.conf"
        self.core = self.directory / "scst.conf"
        self.iscsi.write_text(ISCSI)
        self.core.write_text(CORE.replace("{directory}", str(self.directory)))
        for name in ("disk1.img", "shared.img"):
            (self.directory / name).write_bytes(bytes(1 << 20))

    def converted(self, *paths: Path) -> tuple[Configuration, list[str]]:
        """Return what the files configure, and what was left out."""
        text, warnings = convert(map(str, paths))
        return read(text, "converted"), warnings

    def test_both(self) -> None:
        """The seed's example: that target has the LUNs of its own Default group."""
        found, warnings = self.converted(self.iscsi, self.core)
        devices = {one.name: one for one in found.devices}
        self.assertEqual(devices["disk1"].values["blocksize"], 4096)
        self.assertTrue(devices["disk1"].values["write_through"])
        self.assertTrue(devices["disk1"].values["read_only"])
        self.assertEqual(devices["null"].handler.name, "vdisk_nullio")
        (driver,) = found.drivers
        self.assertEqual(driver.values["IncomingUser"], (("scout", "verysecretscout"),))
        self.assertEqual(driver.values["iSNSServer"], ("192.0.2.7", 3205, True))
        target, other = driver.targets
        self.assertEqual(target.name, NAME)
        self.assertEqual(
            [(one.lun, one.device, one.read_only) for one in target.luns],
            [(0, "disk1", False), (5, "null", True)],
        )
        self.assertEqual([(one.lun, one.device) for one in other.luns], [(0, "shared")])
        for one in (target, other):
            self.assertEqual(
                [(group.name, len(group.patterns)) for group in one.groups],
                [("hosts", 2)],
            )
            self.assertTrue(one.values["enabled"])
        self.assertEqual(len(target.values["IncomingUser"]), 2)
        self.assertEqual(target.values["OutgoingUser"], ("us", "our-other-secret"))
        self.assertEqual(target.values["HeaderDigest"], "CRC32C,None")
        self.assertEqual(target.values["QueuedCommands"], 8)
        self.assertEqual(target.values["alias"], "Test")
        self.assertTrue(target.values["InitialR2T"])
        (lun,) = warnings
        self.assertIn("iscsi-scstd.conf:10:5: 'Lun'", lun)
        self.assertIn("in scst.conf", lun)

    def test_target_of_its_group(self) -> None:
        """A target that only its Default group knows is made."""
        found, warnings = self.converted(self.core)
        self.assertEqual([one.name for one in found.drivers[0].targets], [NAME])
        self.assertEqual(warnings, [])

    def test_mistakes(self) -> None:
        """All of them are told, with their places."""
        self.iscsi.write_text("Targget x\nTarget y\n  Queued 3\n")
        self.core.write_text(
            "[HANDLER nosuch]\nDEVICE a,/b\n[NONSENSE]\nDEVICE b,c\n"
            "[ASSIGNMENT Default]\nDEVICE a,\u00b2\nDEVICE a," + "9" * 5000 + "\n"
        )
        error = self.assertRaises(
            ConfigurationError, self.converted, self.iscsi, self.core
        )
        lines = str(error).splitlines()
        self.assertEqual(len(lines), 8)
        self.assertIn("iscsi-scstd.conf:1:1: 'Targget'", lines[0])
        self.assertIn("'y' is no iSCSI name", lines[1])
        self.assertIn("did you mean 'QueuedCommands'", lines[2])
        self.assertIn("scst.conf:2:1", lines[3])
        self.assertIn("scst.conf:7:1: 'DEVICE': expected DEVICE NAME,LUN", lines[7])
        self.assertRaises(ConfigurationError, self.converted, Path("/no/such/file"))
        said: list[str] = []
        for name in ("say", "show"):
            self.patch(scstadmin, name, said.append)
        words = ["-convert_config", str(self.iscsi)]
        self.assertEqual(scstadmin.prepare(words), tools.REFUSED)
        self.iscsi.write_text(ISCSI)
        self.assertEqual(scstadmin.prepare(words), tools.DONE)
        self.assertEqual(said[-1] + "\n", convert([str(self.iscsi)])[0])

    def test_which(self) -> None:
        """Old files are told from today's."""
        self.assertTrue(is_legacy(ISCSI))
        self.assertTrue(is_legacy(CORE))
        self.assertFalse(is_legacy("HANDLER memory {\n}\n"))
        self.assertFalse(is_legacy(""))

    def test_options(self) -> None:
        """The daemon's options are those of twistd and ours."""
        new = self.directory / "new.conf"
        new.write_text("HANDLER memory {\n}\n")
        words = daemon.arguments(
            [
                "-f",
                "-c",
                str(new),
                "-a",
                "192.0.2.1 ::1",
                "-p",
                "99",
                "-u",
                "7",
                "-g",
                "8",
            ]
        )
        self.assertEqual(
            words,
            [
                "--pidfile", "", "--nodaemon", "--uid", "7", "--gid", "8",
                "scst-iscsi", "--config", str(new),
                "--listen", "192.0.2.1:99", "--listen", "[::1]:99",
            ],
        )  # fmt: skip
        self.assertEqual(
            daemon.arguments(["-c", str(new)])[:2], ["--pidfile", daemon.PID_FILE]
        )
        self.assertIn("--keep-going", daemon.arguments(["-c", str(new), "-k"]))
        self.assertIn("*:99", daemon.arguments(["-c", str(new), "-p", "99"]))
        self.patch(daemon, "CONFIGS", ("/no/such/file",))
        self.assertRaises(ConfigurationError, daemon.arguments, [])
        for option in ("-u", "-g"):
            error = self.assertRaises(
                ConfigurationError,
                daemon.arguments,
                ["-c", str(new), option, "no-such-scstd"],
            )
            self.assertIn("'no-such-scstd': unknown", str(error))
        self.assertRaises(ConfigurationError, daemon.arguments, ["-c", "/no/such/file"])
        error = self.assertRaises(
            ConfigurationError,
            daemon.arguments,
            ["-c", str(self.iscsi), "-s", str(new)],
        )
        self.assertIn(f"{new}/{daemon.CONVERTED}: ", str(error))

    def test_daemon(self) -> None:
        """The daemon serves the seed's files: an initiator sees the right LUNs."""
        need("iscsi-ls")
        # Without accounts and iSNS, which this initiator knows nothing of.
        self.iscsi.write_text(re.sub(r".*(User|iSNS).*\n", "", ISCSI))
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from scstd.daemon import entry; entry()",
                *("-f", "-c", str(self.iscsi), "-c", str(self.core)),
                *("-s", "state", "-a", "127.0.0.1", "-p", "0"),
            ],
            cwd=self.directory,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if f"{OTHER}/0" in line:
                break
        portal = re.search(r"iscsi://([^/]+)/", said[-1])
        assert portal is not None, "".join(said)
        listed = subprocess.run(
            ["iscsi-ls", "-s", f"iscsi://{portal[1]}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        process.stdout.close()
        process.wait(PATIENCE)
        timer.cancel()
        self.assertIn("'Lun'", "".join(said))
        converted = self.directory / "state" / daemon.CONVERTED
        self.assertEqual(converted.stat().st_mode & 0o777, 0o600)
        self.assertIn(NAME, converted.read_text())
        block = listed.split(f"Target:{NAME}")[1].split("Target:")[0]
        self.assertEqual(re.findall(r"Lun:(\d+)", block), ["0", "5"])
