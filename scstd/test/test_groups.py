# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.ports.alua_groups` and `ports`: asymmetric access as it is configured.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.management.config.applying import Configurator, merged
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.console.commands import Verbs
from scstd.management.errors import TreeError
from scstd.management.ports.ports import Ports, relative_ports
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.scsi.alua import AccessState
from scstd.scsi.nexus import Nexus
from scstd.test.clients import find, need

OURS = "iqn.2006-10.net.vlnb:tgt"
SECOND = "iqn.2006-10.net.vlnb:second"
REMOTE = "iqn.2006-10.net.vlnb:remote"

EXAMPLE = f"""\
HANDLER memory {{
    DEVICE disk1 {{
        size 1M
        expl_alua 1
        max_tgt_dev_commands 100
    }}
    DEVICE disk2 {{
        size 1M
    }}
}}
TARGET_DRIVER iscsi {{
    TARGET {OURS} {{
        addr_method FLAT
        rel_tgt_id 5
        LUN 0 disk1
        GROUP g {{
            addr_method PERIPHERAL
            INITIATOR *:friend
            LUN 0 disk1
        }}
    }}
    TARGET {SECOND} {{
        LUN 0 disk1
    }}
}}
DEVICE_GROUP dg {{
    DEVICE disk1
    transition_time 2.5
    TARGET_GROUP local {{
        group_id 256
        state nonoptimized
        preferred 1
        TARGET {OURS} {{
            rel_tgt_id 5
        }}
        TARGET {SECOND}
    }}
    TARGET_GROUP far {{
        group_id 0x101
        state standby
        TARGET {REMOTE} {{
            rel_tgt_id 77
        }}
    }}
}}
"""


class AtOnce(Lane):
    """A lane that makes its calls at once."""

    def __init__(self) -> None:
        super().__init__(None, "test")

    def call(self, function: Any, *arguments: Any) -> Any:
        """Call it now."""
        deferred: Deferred[Any] = Deferred()
        deferred.callback(function(*arguments))
        return deferred


class GroupTests(SynchronousTestCase):
    """
    The example, read and running.
    """

    def open(self, text: str = EXAMPLE, state: str = "") -> System:
        """Open a system."""
        self.clock = Clock()
        system = System(self.clock, StateDirectory(Path(state or self.mktemp())))
        system.devices.lane = AtOnce()
        self.tree = Tree(system)
        starting = Configurator(self.tree).start(read(text, "scst.conf"))
        self.successResultOf(Deferred.fromCoroutine(starting))
        self.addCleanup(lambda: Deferred.fromCoroutine(system.close()))
        return system

    def wrong(self, text: str) -> str:
        """Return what is said about a file with a mistake in it."""
        return str(self.assertRaises(ConfigurationError, read, text, "scst.conf"))

    def test_read(self) -> None:
        """Every word of the example arrives where it belongs."""
        found = read(EXAMPLE, "scst.conf")
        (group,) = found.device_groups
        local, far = group.groups
        self.assertEqual((group.name, group.devices), ("dg", ("disk1",)))
        self.assertEqual(
            group.values,
            {"transition_time": 2.5, "on_stpg": "", "on_stpg_timeout": 17.0},
        )
        self.assertEqual(
            local.values, {"group_id": 256, "state": "nonoptimized", "preferred": True}
        )
        self.assertEqual(local.ports, {OURS: 5, SECOND: None})
        self.assertEqual((far.values["group_id"], far.ports), (257, {REMOTE: 77}))

    def test_running(self) -> None:
        """The example as live objects."""
        system = self.open()
        devices = system.device_groups["dg"].devices
        unit = system.devices["disk1"].unit
        self.assertIs(unit.access, devices)
        self.assertTrue(unit.explicit_access)
        self.assertEqual(unit.max_tasks, 100)
        self.assertIsNone(system.devices["disk2"].unit.access)
        ports = {
            port.name: (port.relative_port, port.target is not None)
            for group in devices.groups.values()
            for port in group.ports.values()
        }
        self.assertEqual(
            ports, {OURS: (5, True), SECOND: (1, True), REMOTE: (77, False)}
        )
        target = system.drivers.targets[OURS]
        self.assertEqual(target.addr_method, "FLAT")
        self.assertEqual(target.groups[0].values["addr_method"], "PERIPHERAL")
        self.assertEqual(devices.transition_time, 3)

    def test_console(self) -> None:
        """States are seen and set by path; a change takes its time."""
        system = self.open()
        verbs = Verbs(self.tree)
        self.assertIn("device_groups/dg/target_groups/far", verbs.ls())
        path = "device_groups/dg/target_groups/local"
        self.assertEqual(
            verbs.get(path),
            {
                "group_id": "256",
                "state": "nonoptimized",
                "preferred": "1",
                "ports": f"{OURS} 5\n{SECOND} 1",
            },
        )
        unit = system.devices["disk1"].unit
        nexus = Nexus(system.drivers.targets[OURS], "iqn.2026-11.org.scstd:i", "i", "t")
        nexus.attach()
        verbs.set(path, "state", "standby")
        self.assertEqual(verbs.get(path)["state"], "transitioning")
        self.assertTrue(unit.restricted)
        self.clock.advance(2.4)
        self.assertEqual(verbs.get(path)["state"], "transitioning")
        self.clock.advance(0.1)
        self.assertEqual(verbs.get(path)["state"], "standby")
        told = [f"{one.asc:04x}" for one in nexus.itls[0].attentions]
        self.assertEqual(told, ["2a06"])
        verbs.set("device_groups/dg", "transition_time", "0")
        verbs.set(path, "state", "active")
        verbs.set(path, "preferred", "0")
        self.assertEqual(verbs.get(path)["state"], "active")
        self.assertEqual(verbs.get(path)["preferred"], "0")
        self.assertFalse(unit.restricted)
        self.assertRaises(ConfigurationError, verbs.set, path, "state", "sleeping")
        self.assertRaises(ConfigurationError, verbs.set, path, "group_id", "0x101")
        verbs.set(path, "group_id", "7")
        self.assertEqual(verbs.get(path)["group_id"], "7")

    def test_configuration(self) -> None:
        """What runs can be written down, and opens the same again."""
        system = self.open()
        live = system.device_groups["dg"]
        (group,) = read(EXAMPLE, "scst.conf").device_groups
        local = group.groups[0]
        # Our targets' identifiers are theirs, not the group's.
        ours = attrs.evolve(local, ports=dict.fromkeys(local.ports))
        expected = attrs.evolve(group, groups=(ours, group.groups[1]))
        self.assertEqual(live.configuration(), expected)
        self.clock.advance(0)
        live.set_transition_time(0)
        self.successResultOf(live.set_state("far", "unavailable"))
        written = live.configuration()
        self.assertEqual(written.groups[1].values["state"], "unavailable")

    def test_unnumbered(self) -> None:
        """Target groups may be without a number, any of them."""
        system = self.open(EXAMPLE.replace("group_id 256", "").replace("0x101", "0"))
        devices = system.device_groups["dg"].devices
        self.assertEqual([one.group_id for one in devices.groups.values()], [0, 0])
        self.assertIsNone(devices.by_id(0))

    def test_addresses(self) -> None:
        """addr_method of a target is seen and set while it runs."""
        system = self.open()
        verbs = Verbs(self.tree)
        path = f"targets/iscsi/{OURS}"
        self.assertEqual(verbs.get(path)["addr_method"], "FLAT")
        self.assertEqual(verbs.get(path)["rel_tgt_id"], "5")
        verbs.set(path, "addr_method", "peripheral")
        self.assertEqual(system.drivers.targets[OURS].addr_method, "PERIPHERAL")

    def test_initiators_values(self) -> None:
        """What is set of a group of initiators is seen, planned and saved; unset too."""
        system = self.open()
        (group,) = system.drivers.targets[OURS].groups
        verbs = Verbs(self.tree)
        path = f"targets/iscsi/{OURS}/ini_groups/g"
        self.assertEqual(verbs.get(path)["black_hole"], "")
        verbs.set(path, "black_hole", "2")
        verbs.set(path, "addr_method", "")
        self.assertEqual(group.values, {"black_hole": 2})
        self.assertRaises(ConfigurationError, verbs.set, path, "black_hole", "5")
        saved = render(system.configuration())
        self.assertIn("        GROUP g {\n            black_hole 2\n", saved)
        configurator = Configurator(self.tree)
        self.assertEqual(configurator.plan(read(saved, "")), [])
        steps = list(map(str, configurator.plan(read(EXAMPLE, ""))))
        self.assertEqual(
            steps, [f"{path}/addr_method: PERIPHERAL", f"{path}/black_hole: "]
        )

    def test_plans(self) -> None:
        """A reload touches what changed; what is saved reads back to the same."""
        self.open()
        configurator = Configurator(self.tree)
        self.assertEqual(configurator.plan(read(EXAMPLE, "")), [])
        saved = render(self.tree.system.configuration())
        self.assertEqual(configurator.plan(read(saved, "")), [])
        self.assertEqual(render(read(saved, "")), saved)
        live = EXAMPLE.replace("state nonoptimized", "state standby")
        steps = list(map(str, configurator.plan(read(live, ""))))
        self.assertEqual(steps, ["device_groups/dg/target_groups/local/state: standby"])
        for text in (
            EXAMPLE.replace("rel_tgt_id 77", "rel_tgt_id 78"),
            EXAMPLE.replace("rel_tgt_id 5", "rel_tgt_id 6"),
            EXAMPLE.replace("transition_time 2.5", "transition_time 0"),
            EXAMPLE,
        ):
            self.successResultOf(configurator.apply(read(text, "")))
            self.assertEqual(configurator.plan(read(text, "")), [])
        self.successResultOf(configurator.clear())
        self.assertEqual(self.tree.system.device_groups, {})

    def numbers(self) -> dict[str, int]:
        """Return the targets' relative target port identifiers."""
        targets = self.tree.system.drivers.targets
        return {
            name.rpartition(":")[2]: one.relative_port for name, one in targets.items()
        }

    def refused(self, number: int, path: str, *words: str, **pairs: str) -> str:
        """Return what is said of a verb, or of a write, that is refused with *number*."""
        verb, *rest = words
        done = (
            self.tree.write(path, verb)
            if not rest
            else self.tree.manage(path, verb, rest, list(pairs.items()))
        )
        error = self.failureResultOf(done, TreeError)
        self.assertEqual(error.value.errno, number, error.getErrorMessage())
        return str(error.value)

    def do(self, path: str, verb: str, *words: str, **pairs: str) -> None:
        """Run a verb."""
        self.successResultOf(self.tree.manage(path, verb, words, list(pairs.items())))

    def told(self, nexus: Nexus) -> list[str]:
        """Return the unit attentions of LUN 0, and take them away."""
        pending = nexus.itls[0].attentions
        found = [f"{one.asc:04x}" for one in pending]
        pending.clear()
        return found

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

    def test_mistakes(self) -> None:
        """What cannot be is refused, with the place and the names."""
        for old, new, where, what in (
            ("rel_tgt_id 77", "rel_tgt_id 5", "26:14: 'dg'", "the same rel_tgt_id 5"),
            (
                "            rel_tgt_id 5",
                "            rel_tgt_id 6",
                "26:14: 'dg'",
                "two rel_tgt_id, 5 and 6",
            ),
            ("0x101", "256", "26:14: 'dg'", "the same group_id 256"),
            (f"TARGET {REMOTE}", f"TARGET {OURS}", "26:14: 'dg'", "local and far"),
            ("rel_tgt_id 77", "rel_tgt_id -1", "42:24: '-1'", "from 1 to 65535"),
            ("state standby", "state up", "40:15: 'up'", "one of active"),
            ("preferred 1", "favourite 1", "32:9: 'favourite'", "preferred, state"),
            ("DEVICE disk1\n    tr", "DEVICE no\n    tr", "27:12: 'no'", "disk1"),
        ):
            self.assertEqual(EXAMPLE.count(old), 1, old)
            message = self.wrong(EXAMPLE.replace(old, new))
            self.assertIn(f"scst.conf:{where}", message)
            self.assertIn(what, message)
        more = EXAMPLE + "DEVICE_GROUP other {\n DEVICE disk1\n}\n"
        self.assertIn("in device groups dg and other", self.wrong(more))
        self.assertIn("already", self.wrong(more.replace("other", "dg")))


class PortTests(SynchronousTestCase):
    """
    Relative target port identifiers.
    """

    def test_stable(self) -> None:
        """A port keeps its number whatever comes before it, or goes."""
        first = relative_ports({"a": None, "b": None}, {}, {})
        self.assertEqual(first, {"a": 1, "b": 2})
        again = relative_ports({"c": None, "b": None}, {}, first)
        self.assertEqual(again, {"b": 2, "c": 3})
        self.assertEqual(relative_ports({"a": None}, {}, {**first, **again}), {"a": 1})

    def test_configured_first(self) -> None:
        """What is configured takes a number from who has only remembered it."""
        found = relative_ports({"a": None, "b": 1}, {}, {"a": 1})
        self.assertEqual(found, {"a": 2, "b": 1})

    def test_all_taken(self) -> None:
        """Numbers that were given away once are used again before there is none."""
        had = {str(number): number for number in range(1, 65536)}
        self.assertEqual(relative_ports({"new": None}, {}, had), {"new": 1})
        many = {f"t{number}": number for number in range(1, 65536)}
        with self.assertRaisesRegex(ConfigurationError, "no rel_tgt_id is free"):
            relative_ports({**many, "new": None}, {}, {})

    def numbers(self, directory: Path, *names: str) -> dict[str, int]:
        """Number ports, remembered in a directory."""
        ours: dict[str, int | None] = dict.fromkeys(names)
        ports = Ports(directory, AtOnce().call)
        numbered = Deferred.fromCoroutine(ports.number(ours, {}))
        found: dict[str, int] = self.successResultOf(numbered)
        return found

    def test_remembered(self) -> None:
        """Numbers survive a restart, also those of targets that are not there now."""
        directory = Path(self.mktemp())
        self.assertEqual(self.numbers(directory, "a", "b"), {"a": 1, "b": 2})
        self.assertEqual(self.numbers(directory, "c"), {"c": 3})
        self.assertEqual(self.numbers(directory, "b"), {"b": 2})
        kept = json.loads((directory / "ports.json").read_text())
        self.assertEqual(kept, {"a": 1, "b": 2, "c": 3})


PATHS = f"""\
HANDLER memory {{
    DEVICE disk1 {{
        size 1M
    }}
}}
TARGET_DRIVER iscsi {{
    enabled 1
    TARGET {OURS} {{
        enabled 1
        LUN 0 disk1
    }}
    TARGET {SECOND} {{
        enabled 1
        LUN 0 disk1
    }}
}}
DEVICE_GROUP dg {{
    DEVICE disk1
    TARGET_GROUP first {{
        group_id 1
        TARGET {OURS}
    }}
    TARGET_GROUP second {{
        group_id 2
        state standby
        TARGET {SECOND}
    }}
}}
"""


class FailoverTests(TestCase):
    """
    Two paths to one disk, and an initiator that is not ours.
    """

    async def read(self, url: str) -> str:
        """Return what qemu-io says when it reads the first block."""
        program = find("qemu-io") or ""
        arguments = ["-r", "-f", "raw", "-c", "read 0 512", url]
        out, err, _status = await getProcessOutputAndValue(program, arguments)
        said: bytes = out + err
        return said.decode()

    async def test_failover(self) -> None:
        """A disk is reached by the path that is active, before and after a change."""
        need("qemu-io")
        system = System(reactor, StateDirectory(Path(self.mktemp())))
        listen = {"iscsi": ["tcp:0:interface=127.0.0.1"]}
        await Configurator(Tree(system)).start(read(PATHS, "scst.conf"), listen)
        self.addCleanup(lambda: Deferred.fromCoroutine(system.close()))
        first, second = system.urls()
        self.assertIn("read 512/512 bytes", await self.read(first))
        self.assertIn("040b", await self.read(second))
        group = system.device_groups["dg"]
        await group.set_state("first", "unavailable")
        await group.set_state("second", "active")
        self.assertIn("040c", await self.read(first))
        self.assertIn("read 512/512 bytes", await self.read(second))
