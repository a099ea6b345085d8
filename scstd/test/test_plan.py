# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.config.plan`, `applying` and `writing`: from any configuration to any
other, back to text, and what untouched initiators notice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.management.config.applying import Configurator, merged
from scstd.management.config.plan import plan
from scstd.management.config.reading import read
from scstd.management.config.writing import render, save
from scstd.management.model.configuration import (
    Configuration,
    DriverConfiguration,
    LunConfiguration,
    TargetConfiguration,
    device,
)
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.test.configurations import configurations, essence
from scstd.test.generating import examples
from scstd.test.initiator import Initiator
from scstd.test.test_management import EXAMPLE, AtOnce

KEPT = "iqn.2026-11.org.scstd:kept"
READ = bytes.fromhex("28000000000000000100")
WRITE = bytes.fromhex("2a000000000000000100")


def now(deferred: Any) -> Any:
    """Return the result of what has happened already."""
    done = (
        deferred if isinstance(deferred, Deferred) else Deferred.fromCoroutine(deferred)
    )
    results: list[Any] = []
    done.addBoth(results.append)
    assert results, "it waits"
    if hasattr(results[0], "raiseException"):
        results[0].raiseException()
    return results[0]


def with_kept(configuration: Configuration) -> Configuration:
    """Add a target that is the same in every configuration."""
    iscsi = next(
        (one for one in configuration.drivers if one.name == "iscsi"),
        DriverConfiguration("iscsi", {}),
    )
    (base,) = read(
        f"TARGET_DRIVER iscsi {{\nenabled 1\nTARGET {KEPT} {{\nenabled 1\n}}\n}}\n", ""
    ).drivers
    kept = attrs.evolve(base.targets[0], luns=(LunConfiguration(0, "kept"),))
    return attrs.evolve(
        configuration,
        devices=(device("kept", "memory", [("size", "1M")]), *configuration.devices),
        drivers=(
            attrs.evolve(
                iscsi,
                values={**base.values, **iscsi.values, "enabled": True},
                targets=(kept, *iscsi.targets),
            ),
        ),
    )


class Case(SynchronousTestCase):
    """
    A system on a clock, that does everything at once.
    """

    def setUp(self) -> None:
        """Make a state directory, for all examples: only its first use is slow."""
        self.state = StateDirectory(Path(self.mktemp()))

    def system(self) -> Configurator:
        """Return a tree with nothing in it, that listens nowhere."""
        system = System(Clock(), self.state)
        system.devices.lane = AtOnce()
        system.drivers.load()
        return Configurator(Tree(system))


class WritingTests(Case):
    """
    From a configuration to text and back.
    """

    @examples()
    @given(configurations())
    def test_round_trip(self, configuration: Configuration) -> None:
        """What is written reads back to the same."""
        text = render(configuration)
        again = read(text, "scst.conf")
        wanted = essence(configuration)
        if not configuration.drivers[0].targets and not again.drivers:
            wanted["drivers"] = {}
        self.assertEqual(essence(again), wanted)
        self.assertEqual(render(again), text)

    def test_example(self) -> None:
        """A file of ours: load, save and load give the same tree."""
        once = self.system()
        self.addCleanup(lambda: now(once.tree.system.close()))
        now(once.apply(read(EXAMPLE, "")))
        saved = render(once.tree.system.configuration())
        twice = self.system()
        now(twice.apply(read(saved, "")))
        self.assertEqual(
            essence(once.tree.system.configuration()),
            essence(twice.tree.system.configuration()),
        )
        self.assertEqual(render(twice.tree.system.configuration()), saved)
        self.assertIn('alias "a \\"big\\" one"', saved)
        self.assertNotIn("MaxBurstLength", saved)

    def test_save(self) -> None:
        """A file is replaced as a whole and keeps its mode; none is left over."""
        directory = Path(self.mktemp())
        directory.mkdir()
        path = directory / "scst.conf"
        path.write_text("old")
        path.chmod(0o640)
        save(str(path), read(EXAMPLE, ""))
        self.assertEqual(path.stat().st_mode & 0o777, 0o640)
        self.assertEqual(
            essence(read(path.read_text(), "")), essence(read(EXAMPLE, ""))
        )
        self.assertEqual([one.name for one in directory.iterdir()], ["scst.conf"])

    def test_no_file(self) -> None:
        """A directory, a pipe, a device and a loop are not replaced by a file."""
        directory = Path(self.mktemp())
        directory.mkdir()
        os.mkfifo(directory / "pipe")
        (directory / "null").symlink_to("/dev/null")
        (directory / "loop").symlink_to("loop")
        there = {one: one.lstat() for one in directory.iterdir()}
        for path, why in (
            ("/", "Is a directory"),
            (directory, "Is a directory"),
            *((path, "not a regular file") for path in there),
            (f"{directory}\0", "no path has a NUL in it"),
        ):
            error = self.failureResultOf(
                self.system().write(str(path)), ConfigurationError
            )
            self.assertIn(why, error.getErrorMessage())
        self.assertEqual({one: one.lstat() for one in directory.iterdir()}, there)

    def test_not_writable(self) -> None:
        """A place that cannot be written is named."""
        error = self.failureResultOf(
            self.system().write("/proc/nowhere/scst.conf"), ConfigurationError
        )
        self.assertIn("/proc/nowhere/scst.conf", error.getErrorMessage())
        self.failureResultOf(self.system().write(), ConfigurationError)


class PlanTests(Case):
    """
    From one configuration to another.
    """

    @examples(25)
    @given(configurations(), configurations())
    def test_any(self, one: Configuration, other: Configuration) -> None:
        """The plan leads there, and back; at the end there is nothing left to do."""
        configurator = self.system()
        for wanted in (one, other, one):
            now(configurator.apply(wanted))
            running = configurator.tree.system.configuration()
            self.assertEqual(essence(running), essence(wanted))
            self.assertEqual(configurator.plan(wanted), [])
        now(configurator.clear())
        self.assertEqual(configurator.tree.system.devices, {})
        self.assertEqual(configurator.tree.system.drivers.targets, {})
        now(configurator.tree.system.close())

    @examples(25)
    @given(st.lists(configurations(), min_size=2, max_size=3))
    def test_untouched(self, wanted: list[Configuration]) -> None:
        """
        An initiator of a target that stays the same notices nothing, at any step: no
        error, no unit attention, and its data is there.
        """
        configurator = self.system()
        now(configurator.apply(with_kept(wanted[0])))
        driver: Any = configurator.tree.system.drivers["iscsi"].instance
        initiator = Initiator(driver.node).ready(KEPT)
        session = initiator.connection.session
        count = 0
        for one in wanted[1:]:
            for step in configurator.plan(with_kept(one)):
                now(configurator._take(step))
                count += 1
                data = count.to_bytes(512, "big")
                self.assertEqual(initiator.do(WRITE, data=data).status, 0, step)
                done = initiator.do(READ, read=512)
                self.assertEqual((done.status, bytes(done.data)), (0, data), step)
            self.assertEqual(
                essence(configurator.tree.system.configuration()),
                essence(with_kept(one)),
            )
        self.assertIs(initiator.connection.session, session)
        now(configurator.tree.system.close())

    def test_order(self) -> None:
        """Devices, targets, LUNs, groups, then what lets initiators in."""
        running = self.system().tree.system.configuration()
        paths = [str(step) for step in plan(running, read(EXAMPLE, ""))]
        firsts = [
            next(at for at, path in enumerate(paths) if word in path)
            for word in ("add_device", "add_target", "luns/mgmt: add", "initiators")
        ]
        self.assertEqual(firsts, sorted(firsts))
        self.assertIn("enabled 1", paths[-2])
        self.assertEqual(paths[-1], "targets/iscsi/mgmt: set_attribute enabled 1")

    def test_moves_to_another_device(self) -> None:
        """A LUN whose device is another one is replaced: it is never absent."""
        before = read(EXAMPLE, "")
        after = read(EXAMPLE.replace("disk2", "disk9"), "")
        verbs = [step.verb for step in plan(before, after)]
        self.assertEqual(verbs, ["add_device", "replace", "replace", "del_device"])

    def test_same_file(self) -> None:
        """A device that takes over another's file waits until that one is closed."""
        text = "HANDLER vdisk_fileio {\nDEVICE %s {\nfilename /x\n}\n}\n"
        before, after = read(text % "a", ""), read(text % "b", "")
        self.assertEqual(
            [step.verb for step in plan(before, after)], ["del_device", "add_device"]
        )

    def test_secrets(self) -> None:
        """Secrets are in the file and in the tree's objects, not in what people see."""
        text = EXAMPLE.replace(
            "QueuedCommands 64",
            'IncomingUser "joe 12charsecret"\nIncomingUser "ann 13charsecrets"\n'
            'OutgoingUser "us 14charsecretss"',
        ).replace("enabled 1\n", 'enabled 1\nIncomingUser "dis 12charsecret"\n', 1)
        configurator = self.system()
        self.addCleanup(lambda: now(configurator.tree.system.close()))
        steps = "\n".join(map(str, now(configurator.apply(read(text, "")))))
        self.assertIn("IncomingUser ********", steps)
        tree = configurator.tree
        path = "targets/iscsi/iqn.2006-10.net.vlnb:tgt"
        seen = steps + str(tree.values(path)) + str(tree.values("targets/iscsi"))
        self.assertIn("joe ********", seen)
        for secret in ("12char", "13char", "14char"):
            self.assertNotIn(secret, seen)
        saved = render(tree.system.configuration())
        self.assertEqual(essence(read(saved, "")), essence(read(text, "")))

    def test_live(self) -> None:
        """An attribute that can be changed is; for another the device opens anew."""
        before = read(EXAMPLE, "")
        live = read(EXAMPLE.replace("size 4G", "size 4G\nusn 7"), "")
        self.assertEqual(list(map(str, plan(before, live))), ["devices/disk1/usn: 7"])
        settled = read(EXAMPLE.replace("size 4G", "size 4G\ntst 0"), "")
        self.assertEqual(
            [step.verb for step in plan(before, settled)],
            ["del", "del_device", "add_device", "add"],
        )

    def changed(self, before: str, after: str) -> list[str]:
        """Return the steps from one file to another, taken; and see that they go back."""
        configurator = self.system()
        self.addCleanup(lambda: now(configurator.tree.system.close()))
        now(configurator.apply(read(before, "")))
        steps = [str(step) for step in now(configurator.apply(read(after, "")))]
        self.assertEqual(configurator.plan(read(after, "")), [])
        now(configurator.apply(read(before, "")))
        self.assertEqual(configurator.plan(read(before, "")), [])
        return steps

    def test_accounts_change_places(self) -> None:
        """Secrets that change places, at a target and for discovery: no state between is
        one that is refused.
        """
        text = (
            'TARGET_DRIVER iscsi {\nIncomingUser "a %(one)s"\nOutgoingUser "b %(two)s"\n'
            'TARGET iqn.2026-11.org.scstd:x {\nIncomingUser "a %(one)s"\n'
            'OutgoingUser "b %(two)s"\n}\n}\n'
        )
        secrets = {"one": "first-secret-0", "two": "second-secret-0"}
        before, after = (
            text % secrets,
            text % {"one": secrets["two"], "two": secrets["one"]},
        )
        steps = self.changed(before, after)
        self.assertEqual(len(steps), 6)
        for secret in secrets.values():
            self.assertNotIn(secret, "\n".join(steps))
        self.changed(before, before.replace("second-secret-0", "third-secret-0"))
        one = before.replace("first-secret-0", "third-secret-0")
        self.assertEqual(len(self.changed(before, one)), 2)

    def test_names_change_places(self) -> None:
        """Devices that change names with each other, take those of one that goes, or
        give theirs to a new one.
        """
        text = "HANDLER memory {\n%s}\n"
        device = "DEVICE %s {\nsize 1M\n%s %s\n}\n"

        def file(names: dict[str, str], attribute: str, value: str) -> str:
            return text % "".join(
                device % (name, attribute, value + number)
                for name, number in names.items()
            )

        for one, other in (
            ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}),
            ({"a": "1", "b": "2", "c": "3"}, {"a": "2", "b": "3", "c": "1"}),
            ({"a": "1"}, {"b": "1"}),
            ({"a": "1", "b": "2"}, {"a": "2"}),
            ({"a": "1"}, {"a": "2", "b": "1"}),
        ):
            for said in (("usn", ""), ("naa_id", "500000000000000")):
                with self.subTest(one=one, other=other, said=said):
                    self.changed(file(one, *said), file(other, *said))

    def test_state_changes_places(self) -> None:
        """The state of a device that goes is that of a new one: the same disk."""
        text = "HANDLER memory {\nDEVICE %s {\nsize 1M\nstate_key k\n}\n}\n"
        configurator = self.system()
        self.addCleanup(lambda: now(configurator.tree.system.close()))
        serials = []
        for name in "ab":
            now(configurator.apply(read(text % name, "")))
            serials.append(configurator.tree.read(f"devices/{name}/serial"))
        self.assertEqual(*serials)
        wrong = text % "a" + text % "b"
        self.assertRaises(ConfigurationError, read, wrong, "")
        error = self.failureResultOf(
            configurator.tree.manage(
                "handlers/memory",
                "add_device",
                ["c"],
                [("size", "1M"), ("state_key", "k")],
            ),
            ConfigurationError,
        )
        self.assertIn("device b has the state k", error.getErrorMessage())

    def test_numbers_change_places(self) -> None:
        """Target groups that change numbers."""
        text = (
            "HANDLER memory {\nDEVICE a {\nsize 1M\n}\n}\nDEVICE_GROUP g {\nDEVICE a\n"
            "TARGET_GROUP x {\ngroup_id %s\n}\nTARGET_GROUP y {\ngroup_id %s\n}\n}\n"
        )
        self.assertEqual(
            self.changed(text % (1, 2), text % (2, 1))[-2:],
            [
                "device_groups/g/target_groups/x/group_id: 2",
                "device_groups/g/target_groups/y/group_id: 1",
            ],
        )

    def test_undone(self) -> None:
        """What cannot be carried out is undone."""
        configurator = self.system()
        now(configurator.apply(read(EXAMPLE, "")))
        before = configurator.tree.system.configuration()
        text = (
            EXAMPLE.replace("LUN 300 disk2", "LUN 301 bad")
            .replace(
                "HANDLER memory\n",
                "HANDLER memory {\nDEVICE bad {\nsize 1000\n}\n}\nHANDLER memory\n",
            )
            .replace("size 4G", "size 4G\ntst 0")
        )
        error = self.failureResultOf(
            configurator.apply(read(text, "")), ConfigurationError
        )
        self.assertIn("size 1000 is not", error.getErrorMessage())
        self.assertIn("as it was before", error.getErrorMessage())
        self.flushLoggedErrors()
        self.assertEqual(
            essence(configurator.tree.system.configuration()), essence(before)
        )

    def test_reload(self) -> None:
        """A file is applied; a bad one changes nothing, and all its mistakes are told."""
        configurator = self.system()
        path = Path(self.mktemp())
        path.write_text(EXAMPLE)
        configurator.path = str(path)
        self.assertGreater(len(now(configurator.reload())), 5)
        self.assertEqual(now(configurator.reload()), [])
        path.write_text(EXAMPLE.replace("enabled", "enabeld").replace("LUN 0", "LUN x"))
        error = self.failureResultOf(
            Deferred.fromCoroutine(configurator.reload()), ConfigurationError
        )
        self.assertEqual(len(error.getErrorMessage().splitlines()), 4)
        self.assertEqual(configurator.plan(read(EXAMPLE, "")), [])

    def test_merged(self) -> None:
        """A file that is put over what runs takes nothing away."""
        running = read(EXAMPLE, "")
        added = read(
            "HANDLER memory {\nDEVICE new {\nsize 1M\n}\n}\nTARGET_DRIVER iscsi {\n"
            "enabled 1\nTARGET iqn.2006-10.net.vlnb:tgt {\nenabled 1\nLUN 5 new\n"
            "GROUP g {\nINITIATOR *:more\n}\n}\n}\n",
            "",
        )
        both = merged(running, added)
        self.assertEqual(len(both.devices), 4)
        target: TargetConfiguration = both.drivers[0].targets[0]
        self.assertEqual([one.lun for one in target.luns], [0, 5, 300])
        self.assertEqual(len(target.groups[0].patterns), 3)
        self.assertEqual(len(both.drivers[0].targets), 2)
