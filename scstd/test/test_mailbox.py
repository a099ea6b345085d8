# SPDX-License-Identifier: MIT
"""
The example of a device that takes whole commands: in memory, configured and opened as
any device, and for a real initiator.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd import plugin
from scstd.attributes import ConfigurationError
from scstd.block.checked import StoreFault
from scstd.installed import Installed
from scstd.installed import installed as found_installed
from scstd.interfaces import CommandAnswer, ICommandDevice, IDeviceHandler
from scstd.management.config.reading import read
from scstd.test.clients import find, need
from scstd.test.devices import CHECK, ManualDevice, sense
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_example import EXAMPLE, checkout, example
from scstd.test.test_handlers_of_others import Handler
from scstd.test.test_presence import PresenceCase
from scstd.test.test_tree import login
from scstd.testing.device_contract import CommandDeviceContract

RECEIVE = b"\x08\0\0\0\xff\0"


def send(data: bytes) -> bytes:
    """Return the CDB that sends a message."""
    return b"\x0a\0" + len(data).to_bytes(3, "big") + b"\0"


class MailboxContract(CommandDeviceContract, TestCase):
    """
    The example keeps the contract.
    """

    async def open(self) -> ICommandDevice:
        """Return a mailbox."""
        return ICommandDevice(example("scstd_mailbox").open(None, "box", {}))


class ContractTests(TestCase):
    """
    The suite finds what does not keep it.
    """

    async def test_finds(self) -> None:
        """Another type, too much data, what is unknown and GOOD, hanging resets."""
        identity = bytes((3, *bytes(35)))

        def honest(cdb: bytes, _out: bytes, most: int) -> CommandAnswer:
            if cdb[0] == 0x12:
                most = min(most, int.from_bytes(cdb[3:5], "big"))
                return CommandAnswer(data_in=identity[:most])
            if cdb[0]:
                return CommandAnswer(CHECK, sense(5, 0x2000))
            return CommandAnswer()

        def generous(cdb: bytes, _out: bytes, _most: int) -> CommandAnswer:
            return CommandAnswer(data_in=identity if cdb[0] == 0x12 else b"")

        class Contract(CommandDeviceContract, TestCase):
            device: ManualDevice

            async def open(self) -> ICommandDevice:
                return ICommandDevice(self.device)

        case: Any = Contract()
        names = [name for name in dir(case) if name.startswith("test_")]
        cases: tuple[tuple[ManualDevice, set[str]], ...] = (
            (ManualDevice(honest), set()),
            (ManualDevice(honest, 1), {"inquiry", "unknown"}),
            (ManualDevice(generous), {"lengths", "unknown"}),
        )
        for device, wrong in cases:
            case.device = device
            found = set()
            for name in names:
                try:
                    await getattr(case, name)()
                except (AssertionError, StoreFault):
                    found.add(name.removeprefix("test_"))
            self.assertEqual(found, wrong)


class MailboxTests(SynchronousTestCase):
    """
    The example.
    """

    def test_messages(self) -> None:
        """What one initiator sends another receives; the rest is what a device says."""
        served: Any = example("scstd_mailbox").open(None, "box", {})
        node, _target, _units = serve(served)
        one = Initiator(node).ready()
        two = Initiator(node, name=INITIATOR + ".two").ready()
        for data in (b"first", b"second" * 5000):
            self.assertEqual(one.do(send(data), data=data).status, 0)
        self.assertEqual(two.do(RECEIVE, read=255).data, b"first")
        received = two.do(b"\x08\0\0\xff\xff\0", read=65535)
        self.assertEqual(received.data, b"second" * 5000)
        self.assertEqual(two.do(RECEIVE, read=255).data, b"")
        inquiry = one.do(b"\x12\0\0\0\x24\0", read=36).data
        self.assertEqual((inquiry[0], inquiry[16:23]), (3, b"MAILBOX"))
        done = one.do(b"\xff" + bytes(9))
        self.assertEqual((done.key, done.asc), (5, 0x2000))

    def test_real(self) -> None:
        """A real initiator sees a processor device, beside a disk."""
        checkout()
        need("iscsi-inq", "iscsi-ls")
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        place = str(EXAMPLE.parent / "scstd_mailbox")
        root = str(EXAMPLE.parents[2])
        path = os.pathsep.join([place, root, os.environ.get("PYTHONPATH", "")])
        with Server(
            *("--device", "box=mailbox", "--device", "disk=memory:size=1M"),
            directory=str(directory),
            luns=2,
            environment={"PYTHONPATH": path},
        ) as server:
            said = {}
            for url in server.urls:
                done = subprocess.run(
                    [str(find("iscsi-inq")), url],
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    check=False,
                )
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                said[url.rpartition("/")[2]] = done.stdout
            self.assertRegex(said["0"], "Peripheral Device Type:PROCESSOR")
            self.assertRegex(said["0"], "Product:MAILBOX")
            self.assertRegex(said["1"], "Peripheral Device Type:DIRECT_ACCESS")


class ManagedTests(PresenceCase):
    """
    Such a device as one of the system's.
    """

    async def test_life(self) -> None:
        """It is opened, closed and opened again; no filter can be before it."""
        made: list[ManualDevice] = []

        def opens() -> Any:
            made.append(ManualDevice(kind=1))
            return made[-1]

        handler: Any = Handler(opens, "tape")
        handler = _typed(handler)

        def installed(kind: Any) -> Installed:
            found = found_installed(kind)
            more = [handler] if kind is IDeviceHandler else []
            return Installed([*found.plugins, *more], found.broken)

        self.patch(plugin, "installed", installed)
        text = self.text("", handler="tape")
        config = await self.start(text)
        tree = config.tree
        one = login(tree)
        self.assertEqual(one.do(b"\xc1" + bytes(9)).status, 0)
        self.assertEqual(made[0].opcodes[-1], 0xC1)
        self.assertEqual(tree.read("devices/d0/type").split()[0], "1")
        await tree.write("devices/d0/active", "0")
        self.assertEqual(made[0].closed, 1)
        inquiry = one.do(b"\x12\0\0\0\x24\0", read=36).data
        self.assertEqual(inquiry[0] & 0x1F, 1)
        await tree.write("devices/d0/active", "1")
        self.assertEqual(len(made), 2)
        with self.assertRaises(ConfigurationError) as caught:
            await tree.write("devices/d0/filter", "delay read=1")
        self.assertIn("filters are for bytes", str(caught.exception))
        while one.do(b"\xc1" + bytes(9)).status:
            pass
        self.assertEqual(made[1].closed, 0)
        await config.apply(read(self.text("active 1", handler="tape"), ""))
        await tree.write("devices/d0/sync", "1")
        await tree.close()
        self.assertEqual((len(made), made[1].closed), (2, 1))


def _typed(handler: Any) -> Any:
    class Typed(type(handler)):  # type: ignore[misc]
        device_type = 1

    return Typed(handler.opens, handler.name)
