# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.ports.device_groups`: what is changed of groups while
initiators are logged in.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path

from twisted.internet.defer import Deferred

from scstd.management.config.applying import Configurator, merged
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.scsi.alua import AccessState
from scstd.scsi.nexus import Nexus
from scstd.test.test_groups import EXAMPLE, OURS, REMOTE, SECOND, GroupBench


class ChangeTests(GroupBench):
    """
    What is changed of a group that runs.
    """

    def test_number(self) -> None:
        """A target gets another number while initiators are there: they are told, it is
        in VPD page 83h and REPORT TARGET PORT GROUPS, and remembered.
        """
        state = self.mktemp()
        system = self.open(state=state)
        path = f"targets/iscsi/{OURS}"
        nexus = Nexus(system.drivers.targets[OURS], "iqn.2026-11.org.scstd:i", "i", "t")
        nexus.attach()
        self.told(nexus)
        self.successResultOf(self.tree.write(f"{path}/rel_tgt_id", "9"))
        self.assertEqual(self.told(nexus), ["3f03", "2a06"])
        self.assertEqual(self.tree.read(f"{path}/rel_tgt_id"), "9\n[key]\n")
        self.assertEqual(
            self.tree.read("device_groups/dg/target_groups/local/ports"),
            f"{OURS} 9\n{SECOND} 1\n",
        )
        group = system.device_groups["dg"].devices.groups["local"]
        self.assertEqual(group.descriptor()[8:].hex(), "0000000100000009")
        kept = json.loads((Path(state) / "ports.json").read_text())
        self.assertEqual(kept, {OURS: 9, SECOND: 1})
        self.assertIn("rel_tgt_id 9", render(system.configuration()))
        for number, error in (
            ("77", errno.EEXIST),
            ("65536", errno.EINVAL),
            ("x", errno.EINVAL),
        ):
            self.refused(error, f"{path}/rel_tgt_id", number)
        self.assertEqual(self.numbers(), {"tgt": 9, "second": 1})
        # One that nobody has configured makes room.
        self.successResultOf(self.tree.write(f"{path}/rel_tgt_id", "1"))
        self.assertEqual(self.numbers(), {"tgt": 1, "second": 2})
        self.successResultOf(self.tree.write(f"{path}/rel_tgt_id", ""))
        self.assertEqual(self.tree.read(f"{path}/rel_tgt_id"), "1\n")
        self.assertNotIn("rel_tgt_id 1", render(system.configuration()))

    def test_numbers_change_places(self) -> None:
        """A reload in which ports, of ours and of others, change numbers."""
        self.open()
        configurator = Configurator(self.tree)
        text = EXAMPLE.replace("            rel_tgt_id 5\n", "")
        both = text.replace(f"TARGET {SECOND} {{", f"TARGET {SECOND} {{\nrel_tgt_id 6")
        for wanted, numbers in (
            (both, {"tgt": 5, "second": 6}),
            (
                both.replace("_id 5", "_id x")
                .replace("_id 6", "_id 5")
                .replace("_id x", "_id 6"),
                {"tgt": 6, "second": 5},
            ),
            (
                both.replace("_id 5", "_id 77").replace(
                    "_id 77\n        }\n    }\n}", "_id 5\n        }\n    }\n}"
                ),
                {"tgt": 77, "second": 6},
            ),
            (both, {"tgt": 5, "second": 6}),
        ):
            self.successResultOf(configurator.apply(read(wanted, "")))
            self.assertEqual(self.numbers(), numbers)
            self.assertEqual(configurator.plan(read(wanted, "")), [])

    def test_number_of_a_group(self) -> None:
        """A number that a target group gives a target of ours is the target's."""
        text = EXAMPLE.replace(
            f"TARGET {SECOND}\n", f"TARGET {SECOND} {{\nrel_tgt_id 8\n}}\n"
        )
        system = self.open(text)
        self.assertEqual(self.numbers(), {"tgt": 5, "second": 8})
        self.assertEqual(Configurator(self.tree).plan(read(text, "")), [])
        saved = render(system.configuration())
        self.assertEqual(Configurator(self.tree).plan(read(saved, "")), [])

    def test_verbs(self) -> None:
        """A device group is made, changed and taken apart by hand, and saved."""
        system = self.open(EXAMPLE[: EXAMPLE.index("DEVICE_GROUP")])
        dg, tg = "device_groups/dg", "device_groups/dg/target_groups/local"
        self.do("device_groups", "create", "dg")
        self.do(f"{dg}/devices", "add", "disk1")
        self.do(f"{dg}/target_groups", "create", "local")
        self.do(f"{dg}/target_groups", "create", "far")
        self.do(tg, "add", OURS)
        self.do(tg, "add", SECOND, rel_tgt_id="8")
        self.do(f"{dg}/target_groups/far", "add", REMOTE)
        self.assertEqual(self.numbers()["second"], 8)
        far = system.device_groups["dg"].devices.groups["far"]
        self.assertEqual(far.descriptor()[7], 0)
        self.successResultOf(
            self.tree.write(f"{dg}/target_groups/far/{REMOTE}/rel_tgt_id", "77")
        )
        self.assertEqual(far.descriptor()[7:].hex(), "010000004d")
        for name, value in (
            ("group_id", "256"),
            ("state", "nonoptimized"),
            ("preferred", "1"),
        ):
            self.successResultOf(self.tree.write(f"{tg}/{name}", value))
        for name, value in (("group_id", "0x101"), ("state", "standby")):
            self.successResultOf(
                self.tree.write(f"{dg}/target_groups/far/{name}", value)
            )
        self.successResultOf(self.tree.write(f"{dg}/transition_time", "2.5"))
        saved = render(system.configuration())
        wanted = read(
            EXAMPLE.replace(f"TARGET {SECOND} {{", f"TARGET {SECOND} {{\nrel_tgt_id 8"),
            "",
        )
        self.assertEqual(Configurator(self.tree).plan(wanted), [])
        self.assertEqual(Configurator(self.tree).plan(read(saved, "")), [])
        # What is there, by path.
        self.assertEqual(self.tree.list(f"{dg}/devices"), ["mgmt", "disk1"])
        self.assertEqual(self.tree.read(f"{tg}/{OURS}/alias"), "\n")
        self.assertEqual(
            self.tree.read(f"{dg}/target_groups/far/{REMOTE}/rel_tgt_id"), "77\n[key]\n"
        )
        for path in ("device_groups", f"{dg}/devices", f"{dg}/target_groups", tg):
            self.assertIn("del ", self.tree.read(f"{path}/mgmt"))
        # And away.
        unit = system.devices["disk1"].unit
        self.do(tg, "del", SECOND)
        self.do(f"{dg}/devices", "del", "disk1")
        self.assertIsNone(unit.access)
        self.do(f"{dg}/devices", "add", "disk1")
        self.do(f"{dg}/target_groups", "del", "far")
        self.do("handlers/memory", "del_device", "disk2")
        self.do("handlers/memory", "del_device", "disk1", force="1")
        self.assertEqual(self.tree.list(f"{dg}/devices"), ["mgmt"])
        self.do("device_groups", "del", "dg")
        self.assertEqual(len(system.device_groups), 0)

    def test_refused(self) -> None:
        """What cannot be is refused, with SCST's kind of number."""
        self.open()
        dg, tg = "device_groups/dg", "device_groups/dg/target_groups/local"
        self.do("device_groups", "create", "other")
        for number, path, words, pairs in (
            (errno.EEXIST, "device_groups", ("create", "dg"), {}),
            (errno.EINVAL, "device_groups", ("create", "a/b"), {}),
            (errno.EINVAL, "device_groups", ("make", "x"), {}),
            (errno.EINVAL, "device_groups", ("create", "x", "y"), {}),
            (errno.ENOENT, "device_groups", ("del", "none"), {}),
            (errno.EEXIST, f"{dg}/devices", ("add", "disk1"), {}),
            (errno.ENOENT, f"{dg}/devices", ("add", "none"), {}),
            (errno.EBUSY, "device_groups/other/devices", ("add", "disk1"), {}),
            (errno.ENOENT, f"{dg}/devices", ("del", "disk2"), {}),
            (errno.EEXIST, f"{dg}/target_groups", ("create", "far"), {}),
            (errno.ENOENT, f"{dg}/target_groups", ("del", "none"), {}),
            (errno.EEXIST, tg, ("add", OURS), {}),
            (errno.EBUSY, tg, ("add", REMOTE), {}),
            (errno.EINVAL, tg, ("add", "x y"), {}),
            (errno.EEXIST, tg, ("add", "iqn.x"), {"rel_tgt_id": "77"}),
            (errno.EEXIST, tg, ("add", "iqn.x"), {"rel_tgt_id": "5"}),
            (errno.EINVAL, tg, ("add", "iqn.x"), {"rel_tgt_id": "-1"}),
            (errno.EINVAL, tg, ("add", "iqn.x"), {"nonsense": "1"}),
            (errno.ENOENT, tg, ("del", REMOTE), {}),
            (errno.EEXIST, f"{dg}/target_groups/far/{REMOTE}/rel_tgt_id", ("5",), {}),
        ):  # fmt: skip
            before = render(self.tree.system.configuration())
            with self.subTest(path=path, words=words):
                self.refused(number, path, *words, **pairs)
                self.assertEqual(render(self.tree.system.configuration()), before)
        for count in range(253):
            self.do(tg, "add", f"iqn.x{count}")
        self.refused(errno.ENOSPC, tg, "add", "iqn.y")

    def test_membership(self) -> None:
        """A reload changes what of a group is another, and leaves the rest alone."""
        system = self.open()
        configurator = Configurator(self.tree)
        devices = system.device_groups["dg"].devices
        more = EXAMPLE.replace(
            "    DEVICE disk1\n    tr", "    DEVICE disk2\n    tr"
        ).replace(f"        TARGET {SECOND}\n", "")
        steps = [
            str(one) for one in self.successResultOf(configurator.apply(read(more, "")))
        ]
        self.assertEqual(
            steps,
            [
                "device_groups/dg/devices/mgmt: del disk1",
                f"device_groups/dg/target_groups/local/mgmt: del {SECOND}",
                "device_groups/dg/devices/mgmt: add disk2",
            ],
        )
        self.assertIs(system.device_groups["dg"].devices, devices)
        self.assertEqual([unit.name for unit in devices.units], ["disk2"])
        self.successResultOf(configurator.apply(read(EXAMPLE, "")))
        # A device that is opened anew is in its group again.
        anew = EXAMPLE.replace("expl_alua 1", "tst 0")
        self.successResultOf(configurator.apply(read(anew, "")))
        self.assertEqual([unit.name for unit in devices.units], ["disk1"])
        # A target that goes is another node's port.
        self.do("targets/iscsi", "del_target", SECOND)
        self.assertIn(
            f"{SECOND} 1", self.tree.read("device_groups/dg/target_groups/local/ports")
        )
        self.assertIn("rel_tgt_id 1", render(system.configuration()))
        self.do("targets/iscsi", "add_target", SECOND)
        self.assertEqual(self.numbers(), {"tgt": 5, "second": 1})

    def test_merged(self) -> None:
        """A file that is put over what runs takes nothing out of a device group."""
        system = self.open()
        added = read(
            "HANDLER memory {\nDEVICE disk3 {\nsize 1M\n}\n}\nDEVICE_GROUP dg {\n"
            "DEVICE disk3\nTARGET_GROUP far {\nstate standby\nTARGET iqn.x {\n"
            "rel_tgt_id 78\n}\n}\nTARGET_GROUP third\n}\n",
            "",
        )
        self.successResultOf(
            Configurator(self.tree).apply(merged(system.configuration(), added))
        )
        devices = system.device_groups["dg"].devices
        self.assertEqual([unit.name for unit in devices.units], ["disk1", "disk3"])
        self.assertEqual(list(devices.groups), ["local", "far", "third"])
        self.assertEqual(list(devices.groups["far"].ports), [REMOTE, "iqn.x"])

    def test_empty(self) -> None:
        """A device group with nothing in it is written so that it can be read."""
        system = self.open()
        self.do("device_groups", "create", "empty")
        saved = render(system.configuration())
        again = read(saved, "")
        self.assertEqual([one.name for one in again.device_groups], ["dg", "empty"])
        self.assertEqual(render(again), saved)

    def test_closed_in_transition(self) -> None:
        """A system that closes does not wait for a change of state."""
        system = self.open()
        group = system.device_groups["dg"]
        changed = group.set_state("local", "standby")
        self.assertNoResult(changed)
        self.successResultOf(Deferred.fromCoroutine(system.close()))
        self.successResultOf(changed)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIs(group.devices.groups["local"].state, AccessState.STANDBY)
