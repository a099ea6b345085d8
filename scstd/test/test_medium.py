# SPDX-License-Identifier: MIT
"""
Tests for media that change under initiators who are logged in: `scstd.scsi.removable`,
of CD/DVD drives and of disks.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.filters.base import Filtered
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.interfaces import IOpticalDrive, IRemovableMedium
from scstd.protocols.wire.pdu import R2T
from scstd.scsi import removable
from scstd.scsi.device import close_disk, open_disk
from scstd.test.discs import drive, image
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import MemoryDrive, memory

A, B = image(40, 1), image(90, 2)

READY = bytes(6)
EJECT, LOAD = b"\x1b\0\0\0\2\0", b"\x1b\0\0\0\3\0"
PREVENT, ALLOW = b"\x1e\0\0\0\1\0", b"\x1e\0\0\0\0\0"
PERSISTENT_PREVENT, PERSISTENT_ALLOW = b"\x1e\0\0\0\3\0", b"\x1e\0\0\0\2\0"


class DriveTests(SynchronousTestCase):
    """
    What all of them need: a drive with the disc a in it, two initiators.
    """

    medium = "a"

    def connect(self, store: Any, **settings: Any) -> None:
        """Serve a store to two initiators."""
        self.store = store
        self.node, self.target, (self.unit,) = serve(store, **settings)
        self.one = Initiator(self.node).ready()
        self.other = Initiator(self.node, name=INITIATOR + "2").ready()

    def setUp(self) -> None:
        """Serve the drive."""
        self.connect(drive({"a": A, "b": B}, self.medium))

    def check(self, done: CommandResult, key: int, asc: int) -> None:
        """The command has to have failed with this sense data."""
        self.assertEqual(done.status, 2)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))

    def good(self, done: CommandResult) -> bytes:
        """The command has to have succeeded."""
        self.assertEqual(done.status, 0, done.sense.hex())
        return done.data

    def change(self, medium: str, *, force: bool = False) -> None:
        """Change the medium as a person does."""
        self.successResultOf(removable.change(self.unit, medium, force=force))

    def events(self, initiator: Initiator, classes: int = 0x10) -> bytes:
        """Return what GET EVENT STATUS NOTIFICATION says."""
        cdb = bytes((0x4A, 1, 0, 0, classes, 0, 0, 0, 8, 0))
        return self.good(initiator.do(cdb, read=8))


class ChangeTests(DriveTests):
    """
    A person changes the disc.
    """

    def test_every_initiator_is_told(self) -> None:
        """Each has one unit attention (28/00) and one event; then the new disc."""
        self.change("b")
        for initiator in (self.one, self.other):
            self.check(initiator.do(read10(0, 1), read=2048), 6, 0x2800)
            self.assertEqual(self.events(initiator)[4:6], b"\x02\x02")  # NEW MEDIA
            self.assertEqual(self.events(initiator)[4:6], b"\x00\x02")
            self.assertEqual(self.good(initiator.do(READY)), b"")
            found = self.good(initiator.do(read10(40, 50), read=102400))
            self.assertEqual(found, B[40 * 2048 :])
            capacity = self.good(initiator.do(b"\x25" + bytes(9), read=8))
            self.assertEqual(capacity, bytes.fromhex("00000059 00000800"))

    def test_emptied(self) -> None:
        """Without a disc the drive is there; what needs one says 3A/00."""
        self.change("")
        for initiator in (self.one, self.other):
            self.check(initiator.do(READY), 2, 0x3A00)
            self.assertEqual(self.events(initiator)[4:6], b"\x03\x00")  # REMOVAL
        for cdb in (
            read10(0, 1),
            b"\x25" + bytes(9),
            bytes.fromhex("43 00 00 00 00 00 00 00 ff 00"),
            bytes.fromhex("51 00 00 00 00 00 00 00 ff 00"),
            bytes.fromhex("52 01 00 00 00 01 00 00 ff 00"),
            bytes.fromhex("be 00 00 00 00 00 00 00 01 10 00 00"),
            bytes.fromhex("ad 00 00 00 00 00 00 00 00 ff 00 00"),
            bytes.fromhex("2b 00 00 00 00 00 00 00 00 00"),
            bytes.fromhex("1b 00 00 00 01 00"),
        ):
            self.check(self.one.do(cdb, read=255), 2, 0x3A00)
        sense = self.good(self.one.do(b"\x03\0\0\0\x12\0", read=18))
        self.assertEqual((sense[2], sense[12:14]), (2, b"\x3a\0"))
        self.assertEqual(self.good(self.one.do(b"\x12\0\0\0\x24\0", read=36))[0], 5)
        data = self.good(self.one.do(b"\x46\0\0\0\0\0\0\0\x08\0", read=8))
        self.assertEqual(data[6:8], b"\0\0")
        page = self.good(self.one.do(b"\x5a\0\x2a\0\0\0\0\0\xff\0", read=255))
        self.assertEqual(page[8], 0x2A)
        structures = bytes.fromhex("ad 00 00 00 00 00 00 ff 00 ff 00 00")
        self.assertEqual(len(self.good(self.one.do(structures, read=255))), 16)
        self.assertEqual(
            self.good(self.one.do(bytes.fromhex("bb 00 ffff 0000") + bytes(6))), b""
        )

    def test_profile_changes(self) -> None:
        """A disc of another kind is an operational change, told once to each."""
        for initiator in (self.one, self.other):
            self.assertEqual(self.events(initiator, 0x02)[4:], bytes(4))
        self.change("")
        for initiator in (self.one, self.other):
            said = self.events(initiator, 0x02)
            self.assertEqual(said[2], 1)
            self.assertEqual(said[4:], bytes.fromhex("02000001"))
            self.assertEqual(self.events(initiator, 0x02)[4:], bytes(4))

    def test_refused_while_prevented(self) -> None:
        """While an initiator prevents removal nothing changes; it is asked to eject."""
        self.good(self.one.do(PREVENT))
        failure = self.failureResultOf(
            removable.change(self.unit, "b"), removable.RemovalPrevented
        )
        self.assertIn(INITIATOR, str(failure.value))
        self.assertEqual(self.store.medium, "a")
        self.assertEqual(self.good(self.one.do(read10(0, 1), read=2048)), A[:2048])
        self.assertEqual(self.events(self.one)[4:6], b"\x01\x02")  # EJECT REQUEST
        self.good(self.one.do(ALLOW))
        self.change("b")
        self.check(self.one.do(READY), 6, 0x2800)

    def test_forced(self) -> None:
        """By force it changes, whoever prevents it."""
        self.good(self.one.do(PREVENT))
        self.change("b", force=True)
        self.check(self.one.do(READY), 6, 0x2800)
        self.assertEqual(self.good(self.one.do(read10(0, 1), read=2048)), B[:2048])

    def test_filled_while_prevented(self) -> None:
        """An empty drive takes a disc: nothing is removed."""
        self.change("")
        self.good(self.one.do(PREVENT))
        self.change("b")
        self.check(self.one.do(READY), 6, 0x2800)

    def test_no_such_disc(self) -> None:
        """When there is no such disc the one before stays, and nobody is told."""
        failed = removable.change(self.unit, "nowhere")
        self.assertIn("nowhere", str(self.failureResultOf(failed).value))
        self.assertEqual(self.good(self.one.do(READY)), b"")
        self.assertEqual(self.events(self.one)[4:6], b"\x00\x02")

    def test_reads_under_way(self) -> None:
        """A read that has begun ends with the disc that it began with."""
        self.store.slow = True
        begun = self.one.command(read10(0, 40), read=40 * 2048)
        self.one.send(begun)
        self.change("b")
        self.assertEqual(len(self.store.reads), 1)
        self.store.reads.pop()()
        self.assertEqual(self.good(self.one.finish(begun)), A)
        self.check(self.one.do(READY), 6, 0x2800)

    def test_whole_sectors_under_way(self) -> None:
        """So does one of whole sectors, which are made up of what was read."""
        self.store.slow = True
        begun = self.one.command(
            bytes.fromhex("be 00 00000010 000002 f8 00 00"), read=2 * 2352
        )
        self.one.send(begun)
        self.change("b")
        self.store.reads.pop()()
        found = self.good(self.one.finish(begun))
        self.assertEqual(found[16:2064], A[16 * 2048 : 17 * 2048])
        self.assertEqual(found[2368:4416], A[17 * 2048 : 18 * 2048])

    def test_reads_that_wait(self) -> None:
        """Reads that were decoded for the disc before never read the new one."""
        self.store.slow = True
        first = self.one.command(read10(0, 1), read=2048)
        # ORDERED: they wait for what came before.
        waiting = [
            self.one.command(read10(lba, 1), read=2048, attribute=2) for lba in (1, 39)
        ]
        self.one.send(first, *waiting)
        self.assertEqual(len(self.store.reads), 1)
        self.change("b")
        self.store.reads.pop()()
        found = {
            pdu.itt: pdu for pdu in self.one.receive() if pdu.first in {0x21, 0x25}
        }
        self.assertEqual(bytes(found[first.itt].data), A[:2048])
        for pdu in waiting:
            sense = bytes(found[pdu.itt].data)[2:]
            self.assertEqual((sense[2], sense[12:14]), (6, b"\x28\0"))
        self.assertEqual(self.store.reads, [])

    def test_verify_under_way(self) -> None:
        """A command of several reads does not go on with the next disc."""
        long = {"a": image(1500, 3), "b": image(1500, 4)}
        self.connect(drive(long, "a"))
        self.store.slow = True
        verify = self.one.command(bytes.fromhex("2f 00 00000000 00 05dc 00"))
        self.one.send(verify)
        self.assertEqual(len(self.store.reads), 1)
        self.change("b")
        self.store.reads.pop()()
        self.assertEqual(self.store.reads, [])
        self.check(self.one.finish(verify), 6, 0x2800)

    def test_larger_and_smaller(self) -> None:
        """The range of blocks is that of the disc that is in."""
        self.change("b")
        self.check(self.one.do(READY), 6, 0x2800)
        self.good(self.one.do(read10(89, 1), read=2048))
        self.change("a")
        self.check(self.one.do(READY), 6, 0x2800)
        self.check(self.one.do(read10(89, 1), read=2048), 5, 0x2100)

    def test_behind_a_filter(self) -> None:
        """A filter before a drive is a drive."""
        self.connect(Filtered(drive({"a": A, "b": B}, "a")))
        self.assertTrue(IOpticalDrive.providedBy(self.store))
        self.change("b")
        self.assertEqual(self.store.medium, "b")
        self.check(self.one.do(READY), 6, 0x2800)
        self.good(self.one.do(EJECT))
        self.good(self.one.do(LOAD))
        self.assertEqual(self.good(self.one.do(read10(0, 1), read=2048)), B[:2048])

    def test_close(self) -> None:
        """A drive is closed with or without a disc."""
        self.change("")
        self.successResultOf(close_disk(self.unit))


class EmptyTests(DriveTests):
    """
    A drive that is opened without a disc.
    """

    medium = ""

    def test_filled(self) -> None:
        """It is empty until a disc is put in."""
        self.assertEqual(self.unit.blocks, 0)
        self.check(self.one.do(READY), 2, 0x3A00)
        self.check(self.one.do(LOAD), 2, 0x3A00)
        self.change("a")
        self.check(self.one.do(READY), 6, 0x2800)
        self.assertEqual(self.good(self.one.do(read10(0, 40), read=81920)), A)


class EjectTests(DriveTests):
    """
    Initiators move the tray.
    """

    def test_eject_and_load(self) -> None:
        """The disc goes, and comes back; the other initiator is told."""
        self.good(self.one.do(EJECT))
        self.assertEqual(self.store.size, 0)
        self.check(self.one.do(read10(0, 1), read=2048), 2, 0x3A00)
        self.assertEqual(self.events(self.other)[4:6], b"\x03\x01")  # removal; open
        status = self.good(self.one.do(b"\xbd" + bytes(8) + b"\x08\0\0", read=8))
        self.assertEqual(status[1], 0x10)
        self.good(self.one.do(LOAD))
        self.assertEqual(self.good(self.one.do(read10(0, 1), read=2048)), A[:2048])
        self.check(self.other.do(READY), 6, 0x2800)
        self.assertEqual(self.events(self.other)[4:6], b"\x02\x02")
        self.good(self.one.do(LOAD))
        self.good(self.other.do(READY))

    def test_eject_with_lock(self) -> None:
        """START STOP UNIT ejects nothing while any initiator prevents it (53/02)."""
        for prevent, allow in (
            (PREVENT, ALLOW),
            (PERSISTENT_PREVENT, PERSISTENT_ALLOW),
        ):
            self.good(self.other.do(prevent))
            for initiator in (self.one, self.other):
                self.check(initiator.do(EJECT), 5, 0x5302)
                self.good(initiator.do(READY))
            self.good(self.one.do(allow))
            self.check(self.one.do(EJECT), 5, 0x5302)
            self.good(self.other.do(allow))
            self.good(self.one.do(EJECT))
            self.good(self.one.do(LOAD))
            self.check(self.other.do(READY), 6, 0x2800)

    def test_both_states(self) -> None:
        """PREVENT and PERSISTENT PREVENT are two states; each ends by itself."""
        self.good(self.one.do(PREVENT))
        self.good(self.one.do(PERSISTENT_PREVENT))
        self.assertEqual(self.events(self.other, 0x02)[5], 0x80)
        self.good(self.one.do(ALLOW))
        self.check(self.one.do(EJECT), 5, 0x5302)
        self.good(self.one.do(PERSISTENT_ALLOW))
        self.assertEqual(self.events(self.other, 0x02)[5], 0x00)
        self.good(self.one.do(EJECT))

    def test_lock_ends(self) -> None:
        """A reset ends every lock, the end of a nexus its own."""
        self.good(self.other.do(PERSISTENT_PREVENT))
        self.other.logout()
        self.good(self.one.do(EJECT))
        self.good(self.one.do(LOAD))
        self.good(self.one.do(PREVENT))
        self.good(self.one.do(PERSISTENT_PREVENT))
        self.one.manage(5)
        self.one.receive()
        self.check(self.one.do(READY), 6, 0x2903)
        self.good(self.one.do(EJECT))

    def test_load_fails(self) -> None:
        """A disc that is no longer there cannot be loaded."""
        self.good(self.one.do(EJECT))
        self.change("")
        self.check(self.one.do(LOAD), 2, 0x3A00)

    def test_power_conditions(self) -> None:
        """Power conditions are taken; there is nothing to save."""
        for condition in (1, 2, 3, 5):
            self.good(self.one.do(bytes((0x1B, 0, 0, 0, condition << 4, 0))))
        self.check(self.one.do(b"\x1b\0\0\0\x40\0"), 5, 0x2400)
        self.good(self.one.do(b"\x1b\0\0\0\0\0"))
        self.good(self.one.do(b"\x1b\0\0\0\1\0"))
        self.good(self.one.do(READY))


class EventTests(DriveTests):
    """
    GET EVENT STATUS NOTIFICATION.
    """

    def test_classes(self) -> None:
        """The header has the classes there are; the descriptor the status."""
        said = self.events(self.one)
        self.assertEqual(said, bytes.fromhex("0006 04 56 00 02 00 00"))
        self.assertEqual(self.events(self.one, 0x04)[2:6], bytes.fromhex("02560001"))
        self.assertEqual(self.events(self.one, 0x40)[2:], bytes.fromhex("065600000000"))
        self.assertEqual(self.events(self.one, 0x02)[2:], bytes.fromhex("015600000000"))

    def test_no_event_available(self) -> None:
        """NEA when no class that was asked for is there."""
        for classes in (0x00, 0x01, 0x08, 0x20, 0x80):
            self.assertEqual(self.events(self.one, classes), b"\0\x02\x80\x56")

    def test_polled(self) -> None:
        """Nothing is told by itself: who does not poll is refused."""
        done = self.one.do(bytes.fromhex("4a 00 00 00 10 00 00 00 08 00"), read=8)
        self.check(done, 5, 0x2400)

    def test_first_class_with_an_event(self) -> None:
        """Of several classes the first that has an event is told, one at a time."""
        self.change("b")
        self.assertEqual(self.events(self.one, 0x56)[2], 1)
        self.assertEqual(self.events(self.one, 0x56)[2:5], b"\x04\x56\x02")
        self.assertEqual(self.events(self.one, 0x56)[2:5], b"\x01\x56\x00")

    def test_header_alone(self) -> None:
        """Who asks for the header alone has not been told."""
        self.change("b")
        cdb = bytes((0x4A, 1, 0, 0, 0x10, 0, 0, 0, 4, 0))
        self.assertEqual(self.good(self.one.do(cdb, read=4)), b"\0\x06\x04\x56")
        self.assertEqual(self.events(self.one)[4], 2)

    def test_unit_attention_stays(self) -> None:
        """Neither it nor GET CONFIGURATION reports or clears a unit attention."""
        self.change("b")
        self.events(self.one)
        self.good(self.one.do(b"\x46\0\0\0\0\0\0\0\x08\0", read=8))
        self.check(self.one.do(READY), 6, 0x2800)

    def test_who_comes_later(self) -> None:
        """Who logs in later is not told of what was before."""
        self.change("b")
        third = Initiator(self.node, name=INITIATOR + "3").ready()
        self.assertEqual(self.events(third)[4:6], b"\x00\x02")


class DiskTests(DriveTests):
    """
    A disk whose store is a drive.
    """

    def setUp(self) -> None:
        """Serve a disk, which can be written."""
        self.connect(MemoryDrive({"a": A, "b": B}, "a", block_size=512))

    def test_is_a_removable_disk(self) -> None:
        """RMB is set, whatever is configured; it writes."""
        data = self.good(self.one.do(b"\x12\0\0\0\x24\0", read=36))
        self.assertEqual(data[:2], b"\x00\x80")
        self.good(self.one.do(write10(0, 1), data=b"w" * 512))
        self.good(self.one.do(EJECT))
        self.check(self.one.do(write10(0, 1), data=bytes(512)), 2, 0x3A00)
        self.good(self.one.do(LOAD))
        self.assertEqual(self.good(self.one.do(read10(0, 1), read=512)), b"w" * 512)
        self.check(self.other.do(READY), 6, 0x2800)

    def test_change(self) -> None:
        """Another medium has another capacity; everybody is told."""
        self.change("b")
        for initiator in (self.one, self.other):
            self.check(initiator.do(READY), 6, 0x2800)
        capacity = self.good(self.one.do(b"\x25" + bytes(9), read=8))
        self.assertEqual(capacity, (len(B) // 512 - 1).to_bytes(4, "big") + b"\0\0\2\0")

    def test_write_under_way(self) -> None:
        """A write whose data comes after the change is not written to the new medium."""
        data = b"w" * 32768
        write = self.one.command(write10(0, 64), write=len(data))
        self.one.send(write)
        r2t = self.one.one(R2T)
        self.change("b")
        self.check(self.one.do(READY), 6, 0x2800)
        self.one.send(*self.one.data_out(r2t, data))
        self.check(self.one.finish(write), 6, 0x2800)
        self.assertEqual(self.store.media, {"a": A, "b": B})

    def test_flushed_before_it_goes(self) -> None:
        """What was written is flushed before the medium is ejected."""
        seen: list[str] = []

        class Watching(Filtered):
            def flush(self) -> None:
                seen.append("flush")

            def eject(self) -> Any:
                seen.append("eject")
                return super().eject()

        self.connect(Watching(MemoryDrive({"a": A}, "a")))
        self.good(self.one.do(EJECT))
        self.assertEqual(seen, ["flush", "eject"])

    def test_eject_fails(self) -> None:
        """A medium that cannot be ejected stays."""

        class Stuck(Filtered):
            def eject(self) -> Any:
                raise OSError(5, "it is stuck")

        self.connect(Stuck(MemoryDrive({"a": A}, "a")))
        self.check(self.one.do(EJECT), 4, 0x5300)
        self.good(self.one.do(READY))

    def test_no_empty_disks(self) -> None:
        """A store that is no drive has to have a size; a drive may be empty."""
        store = memory()
        store.size = 0
        self.assertRaises(ValueError, open_disk, "x", store)
        self.assertFalse(IRemovableMedium.providedBy(store))
        self.assertEqual(open_disk("x", MemoryDrive({})).blocks, 0)
