# SPDX-License-Identifier: MIT
"""
Tests for who a device is by configuration and by what is remembered: two are never
one, and one stays itself.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.model.configuration import (
    Configuration,
    DeviceConfiguration,
    device,
    full_key,
    with_state_key,
)
from scstd.management.model.value_kinds import NAA, SCSIName
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree


async def opened(system: System, *devices: DeviceConfiguration) -> None:
    """Have a system open these devices."""
    await Configurator(Tree(system)).start(Configuration(devices))


class ConfiguredTests(SynchronousTestCase):
    """
    Identities in configuration.
    """

    def test_collisions(self) -> None:
        """Two devices that are configured to be the same are refused, by name."""
        for name, value in (
            ("usn", "42"),
            ("naa_id", "5000c50012345678"),
            ("eui64_id", "0011223344556677"),
            ("t10_dev_id", "it"),
        ):
            devices = tuple(
                device(one, "memory", [("size", "1M"), (name, value)]) for one in "ab"
            )
            with self.assertRaises(ConfigurationError) as caught:
                Configuration(devices)
            self.assertIn(
                f"devices a and b have the same {name}", str(caught.exception)
            )
            Configuration(devices[:1])

    def test_collision_in_a_file(self) -> None:
        """In scst.conf the message names the line of the second one."""
        text = (
            (
                "HANDLER memory {\n"
                "  DEVICE a { size 1M; usn 1 }\n"
                "  DEVICE b { size 1M; usn 1 }\n"
                "}\n"
            )
            .replace("; ", "\n    ")
            .replace(" }", "\n }")
            .replace("{ ", "{\n ")
        )
        with self.assertRaises(ConfigurationError) as caught:
            read(text, "scst.conf")
        self.assertIn("scst.conf:6", str(caught.exception))
        self.assertIn("devices a and b have the same usn", str(caught.exception))

    def test_naa(self) -> None:
        """An NAA name's first digit has to fit its length."""
        for good in ("5000c50012345678", "0x2000000000000001", "6" + "0" * 31, ""):
            NAA().parse(good)
        for bad in ("6000c50012345678", "5" + "0" * 31, "1000c50012345678", "50"):
            self.assertRaises(ConfigurationError, NAA().parse, bad)

    def test_device_name(self) -> None:
        """A SCSI device name is an iqn., eui. or naa. name."""
        for good in ("", "iqn.2026-11.org.scstd:x", "eui.0011223344556677"):
            self.assertEqual(SCSIName().parse(good), good)
        for bad in ("disk", "naa.xyz", "iqn.", "iqn." + "x" * 260):
            self.assertRaises(ConfigurationError, SCSIName().parse, bad)


class FormsTests(TestCase):
    """
    The same device in scst.conf and on the command line is the same disk.
    """

    def setUp(self) -> None:
        """Make a state directory and an image."""
        self.path = Path(self.mktemp())
        self.path.mkdir()
        self.file = self.path / "disk.img"
        self.file.write_bytes(bytes(1 << 20))

    async def serial(self, *, full: bool, file: Path | None = None) -> str:
        """Return the serial number of the device, configured in one form or the other."""
        given = [("filename", str(file or self.file))]
        one = device("disk", "vdisk_fileio", given)
        if full:
            one = with_state_key(one, full_key("disk", one.origin))
        system = System(reactor, StateDirectory(self.path / "state"))
        await opened(system, one)
        found = system.devices["disk"].unit.identity.serial
        await system.close()
        return found

    def test_forms(self) -> Deferred[None]:
        """It keeps its identity from one form to the other, and back, and again."""

        async def check() -> None:
            first = await self.serial(full=True)
            for full in (True, False, False, True):
                self.assertEqual(await self.serial(full=full), first)

        return Deferred.fromCoroutine(check())

    def test_record(self) -> Deferred[None]:
        """The record beside its state moves with it."""

        async def check() -> None:
            state, lane = StateDirectory(self.path / "state"), Lane(reactor, "state")
            before = state.device("disk", lane)
            for kept in (before.update("origin", "here"), before.keep(b"half")):
                assert kept is not None
                await kept
            before.close()
            after = state.device("disk-1", lane, other="disk", origin="here")
            self.assertEqual(after.kept(), b"half")
            after.close()
            await lane.close()

        return Deferred.fromCoroutine(check())

    def test_other_file(self) -> Deferred[None]:
        """A disk of the same name in another file is another disk."""

        async def check() -> None:
            first = await self.serial(full=False)
            other = self.path / "other.img"
            other.write_bytes(bytes(1 << 20))
            self.assertNotEqual(await self.serial(full=True, file=other), first)
            self.assertEqual(await self.serial(full=False), first)

        return Deferred.fromCoroutine(check())

    def test_open_elsewhere(self) -> Deferred[None]:
        """What is open is not taken over: two open disks never have one identity."""

        async def check() -> None:
            one = device("disk", "memory", [("size", "1M")])
            other = with_state_key(one, full_key("disk", one.origin))
            state = StateDirectory(self.path / "state")
            systems = [System(reactor, state) for _ in "12"]
            await opened(systems[0], one)
            await opened(systems[1], other)
            serials = [
                system.devices["disk"].unit.identity.serial for system in systems
            ]
            for system in systems:
                await system.close()
            self.assertNotEqual(serials[0], serials[1])

        return Deferred.fromCoroutine(check())

    def test_copied_state(self) -> Deferred[None]:
        """A device whose state was copied from another's is refused, by both names."""

        async def check() -> None:
            state = StateDirectory(self.path / "state")
            devices = [device(one, "memory", [("size", "1M")]) for one in "ab"]
            system = System(reactor, state)
            await opened(system, *devices)
            await system.close()
            kept = self.path / "state" / "devices"
            (kept / "b.json").write_bytes((kept / "a.json").read_bytes())
            system = System(reactor, state)
            with self.assertRaises(ConfigurationError) as caught:
                await opened(system, *devices)
            self.assertIn(
                "device b: its serial is that of device a", str(caught.exception)
            )
            await opened(system, *devices[:1])
            await system.close()

        return Deferred.fromCoroutine(check())
