# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.tree.prstate`: reservations as a text, and back.
"""

from __future__ import annotations

import errno

import attrs
from twisted.trial.unittest import TestCase

from scstd.management.state.device_memory import DeviceMemory
from scstd.management.tree.tree import Tree
from scstd.protocols.engine.transport import ISCSI
from scstd.scsi.persistent import ReservationState, Type
from scstd.scsi.unit import LogicalUnit
from scstd.test.test_sysfs import refused
from scstd.test.test_tree import IQN, login, started
from scstd.test.test_tree_live import READY

PATH = "devices/disk1/pr_state"
ONE, OTHER = (
    (f"iqn.2005-03.org.initiator:{name},i,0x00023d00000{name}", IQN) for name in "ab"
)
STATES = {
    "none": ReservationState(),
    "registered": ReservationState({ONE: 1}, generation=1),
    "exclusive": ReservationState(
        {ONE: 0xABC, OTHER: 2**64 - 1}, Type(3), ONE, True, 2**32 - 1
    ),
    "registrants": ReservationState({OTHER: 5, ONE: 7}, Type(5), ONE, False, 9),
    "all": ReservationState({ONE: 1, OTHER: 1}, Type(8), None, True, 3),
}


class StateTests(TestCase):
    """
    A device nobody uses.
    """

    def unit(self, tree: Tree) -> LogicalUnit:
        """Return the unit of the device."""
        return tree.system.devices.find("disk1").unit

    async def test_and_back(self) -> None:
        """What was read is what is written, whatever was there."""
        tree = await started(self)
        unit = self.unit(tree)
        texts = {}
        for name, state in STATES.items():
            unit.reservation.restore(state)
            texts[name] = tree.read(PATH)
        for name, state in STATES.items():
            for before in texts.values():
                await tree.write(PATH, before)
                await tree.write(PATH, texts[name])
                self.assertEqual(unit.reservation.persistent, state, name)
                self.assertEqual(
                    unit.memory.load().get("persistent"), state.remembered()
                )

    async def test_format(self) -> None:
        """It is SCST's: type, scope and key in hex, the target by its number."""
        tree = await started(self)
        self.unit(tree).reservation.restore(
            ReservationState({ONE: 0x12AB}, Type(1), ONE, False, 4)
        )
        identifier = ISCSI.transport_id(ONE[0])
        self.assertEqual(
            tree.read(PATH),
            "version 1\n"
            "generation 4\n"
            "reservation 01 00\n"
            f"registrant 1 00000000000012ab 1 {len(identifier)} {identifier.hex()}\n"
            "aptpl 0\n",
        )

    async def test_without_aptpl(self) -> None:
        """SCST's text has no word for what survives: that stays as it was."""
        tree = await started(self)
        unit = self.unit(tree)
        text = "version 1\ngeneration 4\n"
        for aptpl in (False, True):
            unit.reservation.restore(attrs.evolve(STATES["all"], aptpl=aptpl))
            await tree.write(PATH, text)
            found = unit.reservation.persistent
            self.assertEqual(found, ReservationState(aptpl=aptpl, generation=4))

    async def test_used(self) -> None:
        """Under initiators nothing is changed; they find it when they come."""
        tree = await started(self)
        unit = self.unit(tree)
        one = login(tree)
        unit.reservation.restore(ReservationState({OTHER: 5}, Type(3), OTHER))
        text = tree.read(PATH)
        unit.reservation.restore(ReservationState())
        self.assertEqual(await refused(tree, PATH, text), errno.EBUSY)
        self.assertEqual(one.do(READY).status, 0)
        self.assertEqual(unit.reservation.persistent, ReservationState())

    async def test_conflict(self) -> None:
        """A reservation that was written keeps others out."""
        tree = await started(self)
        unit = self.unit(tree)
        unit.reservation.restore(ReservationState({OTHER: 5}, Type(3), OTHER))
        text = tree.read(PATH)
        unit.reservation.restore(ReservationState())
        await tree.write(PATH, text)
        read = bytes.fromhex("28000000000000000100")
        self.assertEqual(login(tree).do(read, read=512).status, 0x18)

    async def test_mistakes(self) -> None:
        """A text with a mistake changes nothing, and the message has its line."""
        tree = await started(self)
        unit = self.unit(tree)
        state = STATES["exclusive"]
        unit.reservation.restore(state)
        good = tree.read(PATH)
        one, other = (line for line in good.splitlines() if "registrant" in line)
        for old, new, line in (
            ("version 1", "version 2", 1),
            ("version 1\n", "", 1),
            (good, "", 1),
            ("generation", "generations", 2),
            ("generation 4294967295", "generation 4294967296", 2),
            ("reservation 03 00", "reservation 03", 3),
            ("reservation 03 00", "reservation 03 01", 3),
            ("reservation 03 00", "reservation 04 00", 3),
            ("reservation 03 00", "reservation 07 00", 0),
            ("reservation 03 00\n", "", 0),
            ("registrant 1 ", "registrant 77 ", 4),
            ("0000000000000abc", "0", 0),
            ("0000000000000abc 1", "0000000000000abc 0", 0),
            ("0000000000000abc", "nonsense", 4),
            (one, one[:-2], 4),
            (other, one, 5),
            (one, one.replace(" 4500", " 4600"), 4),
            ("aptpl 1", "aptpl 2", 6),
        ):
            text = good.replace(old, new)
            self.assertNotEqual(text, good, old)
            self.assertEqual(await refused(tree, PATH, text), errno.EINVAL, new)
            said = f"line {line}:" if line else "holders"
            self.assertIn(said, tree.last_error, (old, new))
            self.assertEqual(unit.reservation.persistent, state)

    async def test_not_kept(self) -> None:
        """What cannot be kept is not so."""
        tree = await started(self)
        unit = self.unit(tree)
        unit.reservation.restore(STATES["all"])
        text = tree.read(PATH)
        unit.reservation.restore(ReservationState())

        def full(_self: object, _key: str, _value: object) -> None:
            raise OSError(errno.ENOSPC, "no space left")

        self.patch(DeviceMemory, "update", full)
        self.assertEqual(await refused(tree, PATH, text), errno.ENOSPC)
        self.assertEqual(unit.reservation.persistent, ReservationState())
        self.assertFalse(unit.reservation.changing.taken)
