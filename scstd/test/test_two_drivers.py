# SPDX-License-Identifier: MIT
"""
Tests for a service with two target drivers: iscsi, and the example of doc/drivers.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from scstd import installed, plugin
from scstd.attributes import ConfigurationError
from scstd.initiator.blocking import BlockingSession, name_of
from scstd.initiator.commands import read10, write10
from scstd.management.config.reading import read, read_and_check
from scstd.management.config.writing import render
from scstd.plugin import TargetDriver
from scstd.service import SystemService, make_service
from scstd.tap import Options
from scstd.test.serving import PATIENCE
from scstd.test.test_driver_contract import ISCSIClient, LinesClient, lines_login
from scstd.test.test_example import EXAMPLE, checkout, example

NAME = "iqn.2026-11.org.scstd:t"
"""The name of a target of each."""

LINES = f"lines:{NAME}"
"""What the whole system calls that of the example."""

CONFIGURATION = f"""
HANDLER memory {{
    DEVICE disk {{
        size 1M
    }}
}}
TARGET_DRIVER iscsi {{
    enabled 1
    TARGET {NAME} {{
        enabled 1
        LUN 0 disk
    }}
}}
TARGET_DRIVER lines {{
    enabled 1
    TARGET {NAME} {{
        enabled 1
        MaxCommands 7
        LUN 0 disk
        GROUP g {{
            LUN 5 disk
            INITIATOR grouped
        }}
    }}
}}
"""

READY = bytes(6)
BLOCK = b"z" * 512
GOOD, CHECK_CONDITION, CONFLICT = 0, 2, 0x18


def _prout(action: int, kind: int, key: int, new: int, flags: int = 0) -> Any:
    cdb = bytes((0x5F, action, kind, 0, 0, 0, 0, 0, 24, 0))
    data = key.to_bytes(8, "big") + new.to_bytes(8, "big") + bytes(4)
    return cdb, data + bytes((flags, 0, 0, 0))


class TwoDrivers(TestCase):
    """
    A service with both.
    """

    def setUp(self) -> None:
        """Install the example, for this process alone."""
        if "scstd_lines" not in sys.modules:
            sys.modules["scstd_lines"] = example("scstd_lines")
        lines = TargetDriver("lines", "Lines of hex", "scstd_lines")

        def both(interface: Any) -> installed.Installed:
            found = installed.installed(interface)
            if interface.providedBy(lines):
                found.plugins.append(lines)
            return found

        self.patch(plugin, "installed", both)
        directory = Path(self.mktemp())
        directory.mkdir()
        self.directory = directory.absolute()
        self.file = self.directory / "scst.conf"

    async def serve(self, text: str = CONFIGURATION) -> SystemService:
        """Return the service that runs what a text says, until the test ends."""
        self.file.write_text(text)
        options = Options()
        options.parseOptions(
            [
                *("--config", str(self.file), "--state-dir", str(self.directory)),
                *("--listen", "127.0.0.1:0", "--listen", "lines=127.0.0.1:0"),
                *("--control", str(self.directory / "c")),
            ]
        )
        (service,) = make_service(options["settings"], reactor)
        assert isinstance(service, SystemService)
        service.startService()
        self.addCleanup(service.stopService)
        self.urls = await service.whenStarted()
        self.service = service
        return service

    async def iscsi(self) -> ISCSIClient:
        """Return a session of iSCSI."""
        url = next(one for one in self.urls if one.startswith("iscsi://"))
        client = ISCSIClient(await deferToThread(BlockingSession, url, 1))
        self.addCleanup(client.close)
        await client.do(0, READY)
        return client

    async def lines(self, initiator: str = "one", lun: int = 0) -> LinesClient:
        """Return one of the example."""
        port = next(iter(self.service.system.drivers["lines"].ports.values()))
        client = await lines_login(port.getHost(), initiator, NAME)
        self.addCleanup(client.close)
        await client.do(lun, READY)
        return client


class ServedTests(TwoDrivers):
    """
    One device, two ways to it.
    """

    async def test_data(self) -> None:
        """What one writes the other reads; each has its URLs, ports and LUN maps."""
        await self.serve()
        schemes = [url.partition(":")[0] for url in self.urls]
        self.assertEqual(sorted(schemes), ["iscsi", "lines"])
        iscsi, lines = await self.iscsi(), await self.lines()
        self.assertEqual((await iscsi.do(0, write10(3, 1), data=BLOCK)).status, GOOD)
        self.assertEqual((await lines.do(0, read10(3, 1))).data, BLOCK)
        grouped = await self.lines("grouped", 5)
        self.assertEqual((await grouped.do(5, read10(3, 1))).data, BLOCK)
        self.assertEqual((await grouped.do(0, READY)).status, CHECK_CONDITION)

    async def test_reservation(self) -> None:
        """A reservation by one way holds the other off; both are told of both."""
        await self.serve()
        iscsi, lines = await self.iscsi(), await self.lines()
        for action, kind, key, new in ((0, 0, 0, 7), (1, 1, 7, 0)):
            cdb, data = _prout(action, kind, key, new)
            self.assertEqual((await lines.do(0, cdb, data=data)).status, GOOD)
        write = write10(0, 1)
        self.assertEqual((await iscsi.do(0, write, data=BLOCK)).status, CONFLICT)
        self.assertEqual((await lines.do(0, write, data=BLOCK)).status, GOOD)
        cdb, data = _prout(0, 0, 0, 9)
        self.assertEqual((await iscsi.do(0, cdb, data=data)).status, GOOD)
        for client in (iscsi, lines):
            full = (await client.do(0, b"\x5e\x03" + bytes(5) + b"\x10\0\0")).data
            ports = self.service.system.drivers.targets
            found = {}
            at = 8
            while at < len(full):
                length = int.from_bytes(full[at + 20 : at + 24], "big")
                number = int.from_bytes(full[at + 18 : at + 20], "big")
                found[number] = (full[at + 7], full[at + 24 : at + 24 + length])
                at += 24 + length
            key, identifier = found[ports[NAME].relative_port]
            self.assertEqual(key, 9)
            self.assertIn(name_of(1).encode(), identifier)
            # The example's protocol has no TransportIDs.
            self.assertEqual(found[ports[LINES].relative_port], (7, b""))

    async def test_no_transport_ids(self) -> None:
        """SPEC_I_PT is refused where there are no TransportIDs, and said to be."""
        await self.serve()
        iscsi, lines = await self.iscsi(), await self.lines()
        cdb, data = _prout(0, 0, 0, 7, 0x08)
        answer = await lines.do(0, cdb, data=data)
        self.assertEqual((answer.status, answer.asc), (CHECK_CONDITION, 0x2600))
        self.assertEqual(answer.sense[15:18], b"\x8b\0\x14")
        capable = b"\x5e\x02" + bytes(5) + b"\0\x08\0"
        self.assertEqual((await lines.do(0, capable)).data[2] & 0x08, 0)
        self.assertEqual((await iscsi.do(0, capable)).data[2] & 0x08, 0x08)

    async def test_designators(self) -> None:
        """A port without a protocol is designated by its relative identifier alone."""
        await self.serve()
        lines = await self.lines()
        number = self.service.system.drivers.targets[LINES].relative_port
        port = b"\x01\x14\0\x04\0\0" + number.to_bytes(2, "big")
        inquiry = b"\x12\x01%b\x10\0\0"
        page = (await lines.do(0, inquiry % b"\x83")).data
        self.assertIn(port, page)
        self.assertNotIn(b"iqn.", page)
        page = (await lines.do(0, inquiry % b"\x88")).data
        self.assertEqual(page[16:], port)
        standard = (await lines.do(0, b"\x12\0\0\0\x60\0")).data
        self.assertEqual(standard[58:62].hex(), "00a00460")
        sense = (await lines.do(0, b"\x1a\x08\x19\0\xff\0")).data
        self.assertEqual(sense[4 + 2] & 0xF, 0xF)

    async def test_move(self) -> None:
        """A reservation moves to a port in the way of naming that it has."""
        await self.serve()
        iscsi, lines = await self.iscsi(), await self.lines()
        for action, kind, key, new in ((0, 0, 0, 7), (1, 1, 7, 0)):
            cdb, data = _prout(action, kind, key, new)
            self.assertEqual((await lines.do(0, cdb, data=data)).status, GOOD)
        targets = self.service.system.drivers.targets
        (session,) = self.service.system.drivers["iscsi"].instance.sessions()
        identifier = targets[NAME].transport.transport_id(session.nexus.initiator_port)
        data = (7).to_bytes(8, "big") + (8).to_bytes(8, "big") + b"\0\0"
        data += targets[NAME].relative_port.to_bytes(2, "big")
        data += len(identifier).to_bytes(4, "big") + identifier
        cdb = bytes((0x5F, 7, 1, 0, 0, 0, 0, 0, len(data), 0))
        self.assertEqual((await lines.do(0, cdb, data=data)).status, GOOD)
        write = write10(0, 1)
        self.assertEqual((await iscsi.do(0, write, data=BLOCK)).status, GOOD)
        self.assertEqual((await lines.do(0, write, data=BLOCK)).status, CONFLICT)


class ManagedTests(TwoDrivers):
    """
    Both in one tree, one file, one numbering.
    """

    async def test_tree(self) -> None:
        """Targets of one name are two: attributes, numbers, sessions, events."""
        heard: list[Any] = []
        service = await self.serve()
        service.system.events.listeners.append(heard.append)
        tree = service.tree
        await self.lines()
        path = f"targets/lines/{NAME}"
        self.assertEqual(tree.read(f"{path}/MaxCommands").split("\n")[0], "7")
        self.assertEqual(tree.read(f"{path}/enabled").strip(), "1")
        numbers = {
            tree.read(f"targets/{one}/{NAME}/rel_tgt_id").split("\n")[0]
            for one in ("iscsi", "lines")
        }
        self.assertEqual(numbers, {"1", "2"})
        kept = json.loads((self.directory / "ports.json").read_text())
        self.assertEqual(set(kept), {NAME, LINES})
        self.assertEqual(tree.read(f"{path}/sessions/one/commands").strip(), "1")
        opened = [one for one in heard if one.name == "SESSION_OPENED"]
        self.assertEqual([one.fields["target"] for one in opened], [LINES])
        await tree.write(f"{path}/enabled", "0")
        with self.assertRaises(ConnectionError):
            await self.lines()
        await self.iscsi()

    async def test_no_name(self) -> None:
        """Each driver says what a name is; any is one of the example's."""
        await self.serve()
        tree = self.service.tree
        await tree.manage("targets/lines", "add_target", ["Any_Name"])
        self.assertIn("Any_Name", self.service.system.drivers["lines"].targets)
        with self.assertRaises(ConfigurationError):
            await tree.manage("targets/iscsi", "add_target", ["Any_Name"])
        with self.assertRaises(ConfigurationError):
            await tree.manage("targets/lines", "add_target", [NAME])

    async def test_file(self) -> None:
        """What is written is what is running, and it can be read and checked."""
        service = await self.serve()
        text = render(service.system.configuration())
        self.assertEqual(render(read(text, "again")), text)
        self.file.write_text(text)
        self.assertEqual(read_and_check(str(self.file))[1], [])
        self.file.write_text(text.replace("MaxCommands 7", "MaxCommands 0"))
        with self.assertRaisesRegex(ConfigurationError, "from 1 to 4096"):
            read_and_check(str(self.file))

    async def test_reload(self) -> None:
        """A driver's target goes with its sessions, and comes back; others stay."""
        await self.serve()
        iscsi, lines = await self.iscsi(), await self.lines()
        whole = self.file.read_text()
        self.file.write_text(whole.partition("TARGET_DRIVER lines")[0])
        await self.service.reload()
        with self.assertRaises(ConnectionError):
            await lines.do(0, READY)
        self.assertEqual((await iscsi.do(0, READY)).status, GOOD)
        self.assertEqual(list(self.service.system.drivers.targets), [NAME])
        self.file.write_text(whole)
        await self.service.reload()
        self.assertEqual((await iscsi.do(0, READY)).status, GOOD)
        await self.lines()
        self.assertEqual(self.service.system.drivers.targets[LINES].relative_port, 2)

    async def test_tool(self) -> None:
        """Scstadmin shows both, each by its driver."""
        await self.serve()
        await self.lines()
        for options, expected in (
            (("-list_driver",), ("iscsi", "lines")),
            (("-list_target", "-driver", "lines"), (NAME,)),
            (("-list_tgt_attr", NAME, "-driver", "lines"), ("MaxCommands", "7")),
            (("-list_sessions", "-driver", "lines", "-target", NAME), ("one",)),
        ):
            status, said = await deferToThread(self.tool, *options)
            self.assertEqual(status, 0, said)
            for word in expected:
                self.assertIn(word, said)

    def tool(self, *options: str) -> tuple[int, str]:
        """Run scstadmin."""
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from scstd.management.cli.scstadmin import entry; entry()",
                *options,
            ],
            env={**os.environ, "SCSTD_CONTROL": str(self.directory / "c")},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    async def test_access_states(self) -> None:
        """A device group names a port of the example by its whole name."""
        await self.serve(
            CONFIGURATION
            + f"""
DEVICE_GROUP dg {{
    DEVICE disk
    TARGET_GROUP near {{
        group_id 1
        TARGET {NAME}
    }}
    TARGET_GROUP far {{
        group_id 2
        state unavailable
        TARGET {LINES}
    }}
}}
"""
        )
        iscsi, lines = await self.iscsi(), await self.lines()
        self.assertEqual((await iscsi.do(0, read10(0, 1))).status, GOOD)
        answer = await lines.do(0, read10(0, 1))
        self.assertEqual((answer.status, answer.asc), (CHECK_CONDITION, 0x040C))
        path = "device_groups/dg/target_groups/far"
        link = self.service.tree.entry(f"{path}/{LINES}", follow=False)
        self.assertIn(f"targets/lines/{NAME}", repr(link))

    async def test_pr_state(self) -> None:
        """pr_state names who has no TransportID, and takes that again."""
        service = await self.serve()
        iscsi, lines = await self.iscsi(), await self.lines()
        for client, key in ((iscsi, 5), (lines, 7)):
            cdb, data = _prout(0, 0, 0, key)
            self.assertEqual((await client.do(0, cdb, data=data)).status, GOOD)
        path = "devices/disk/pr_state"
        said = service.tree.read(path)
        self.assertIn("\nnamed 2 0000000000000007 0 one\n", said)
        self.assertIn("\nregistrant 1 0000000000000005 0 ", said)
        await iscsi.close()
        await lines.close()
        unit = service.system.devices["disk"].unit
        while unit.itls:
            await deferToThread(lambda: None)
        await service.tree.write(path, "version 1\ngeneration 0\n")
        await service.tree.write(path, said)
        self.assertEqual(service.tree.read(path), said)


class AloneTests(TestCase):
    """
    The example alone, installed as another package would be.
    """

    def test_run(self) -> None:
        """The command line serves a disk by the driver that is named."""
        checkout()
        path = f"{EXAMPLE.parent / 'scstd_lines'}{os.pathsep}{EXAMPLE.parents[2]}"
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-c",
                    "from twisted.scripts.twistd import run; run()",
                ),
                *("-n", "--pidfile=", "scst-iscsi"),
                *("--driver", "lines", "--listen", "127.0.0.1:0", "--target", "disks"),
                *("--device", "d=memory:size=1M", "--control", ""),
                *("--run", "echo $SCSTD_URLS"),
            ],
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        self.assertRegex(
            done.stdout, r"lines://127\.0\.0\.1:\d+/disks/0\n", done.stderr
        )
