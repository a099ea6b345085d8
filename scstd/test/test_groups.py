# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.ports.alua_groups` and `ports`: asymmetric access as it is configured.
"""

from __future__ import annotations

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
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.console.commands import Verbs
from scstd.management.errors import TreeError
from scstd.management.ports.ports import Ports, relative_ports
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
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


class GroupBench(SynchronousTestCase):
    """
    Opens systems, and works on their groups.
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


class GroupTests(GroupBench):
    """
    The example, read and running.
    """

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
