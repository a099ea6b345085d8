# SPDX-License-Identifier: MIT
"""
Tests for `scstd.workers.islands`.
"""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.management.model.configuration import (
    Configuration,
    DriverConfiguration,
    GroupConfiguration,
    LunConfiguration,
    TargetConfiguration,
    device,
)
from scstd.management.model.group_configuration import (
    DeviceGroupConfiguration,
    TargetGroupConfiguration,
)
from scstd.test.generating import examples
from scstd.workers.islands import (
    DEVICE,
    GROUP,
    TARGET,
    About,
    Owners,
    Thing,
    about,
    island_of,
    islands,
    part,
    place,
    split,
    thing_at,
    things,
)

WORKERS = range(3)
DISKS = {name: device(name, "vdisk_nullio", [("size", "1M")]) for name in "abcdef"}
NAMES = [f"iqn.2026-11.org.scstd:{name}" for name in "uvwxyz"]


@st.composite
def maps(draw: st.DrawFn, names: list[str]) -> tuple[LunConfiguration, ...]:
    """
    Return a LUN map of at most two of these devices.
    """
    chosen = draw(st.lists(st.sampled_from(names), max_size=2)) if names else []
    return tuple(LunConfiguration(lun, name) for lun, name in enumerate(chosen))


@st.composite
def archipelagos(draw: st.DrawFn) -> Configuration:
    """
    Return a configuration with devices, targets, groups of both kinds.
    """
    disks = draw(st.lists(st.sampled_from(sorted(DISKS)), unique=True))
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    targets = [
        TargetConfiguration(
            name,
            {},
            draw(maps(disks)),
            (GroupConfiguration("g", (), draw(maps(disks))),),
        )
        for name in names
    ]
    left = list(disks)
    groups = []
    for name in draw(st.lists(st.sampled_from("gh"), unique=True)):
        members = draw(st.lists(st.sampled_from(left), unique=True)) if left else []
        left = [one for one in left if one not in members]
        ports = draw(st.lists(st.sampled_from([*NAMES, "theirs"]), unique=True))
        group = TargetGroupConfiguration("t", {}, dict.fromkeys(ports))
        groups.append(DeviceGroupConfiguration(name, {}, tuple(members), (group,)))
    return Configuration(
        tuple(DISKS[one] for one in disks),
        (DriverConfiguration("iscsi", {"portal": ("[::]:1",)}, tuple(targets)),),
        tuple(groups),
    )


@st.composite
def owned(draw: st.DrawFn) -> tuple[Configuration, dict[Thing, int]]:
    """
    Return a configuration, and who has some of it.
    """
    found = draw(archipelagos())
    workers = st.one_of(st.none(), st.sampled_from(WORKERS))
    had = {one: draw(workers) for one in things(found)}
    return found, {one: worker for one, worker in had.items() if worker is not None}


def backwards(configuration: Configuration) -> Configuration:
    """
    Return the same, made in another order.
    """
    return attrs.evolve(
        configuration,
        devices=configuration.devices[::-1],
        drivers=tuple(
            attrs.evolve(one, targets=one.targets[::-1])
            for one in configuration.drivers
        ),
        device_groups=configuration.device_groups[::-1],
    )


class IslandsTests(SynchronousTestCase):
    """
    What is tied to what.
    """

    @examples()
    @given(archipelagos())
    def test_all_once(self, configuration: Configuration) -> None:
        """Each thing is on one island."""
        found = [one for island in islands(configuration) for one in island]
        self.assertEqual(sorted(found), sorted(things(configuration)))
        self.assertEqual(len(found), len(set(found)))

    @examples()
    @given(archipelagos())
    def test_closed(self, configuration: Configuration) -> None:
        """Nothing refers to what is on another island."""
        home = {
            one: at
            for at, island in enumerate(islands(configuration))
            for one in island
        }
        for target in configuration.drivers[0].targets:
            own = home[Thing(TARGET, target.name)]
            for lun in (*target.luns, *target.groups[0].luns):
                self.assertEqual(home[Thing(DEVICE, lun.device)], own)
        for group in configuration.device_groups:
            own = home[Thing(GROUP, group.name)]
            for name in group.devices:
                self.assertEqual(home[Thing(DEVICE, name)], own)
            for port in group.groups[0].ports:
                self.assertEqual(home.get(Thing(TARGET, port), own), own)

    @examples()
    @given(archipelagos())
    def test_smallest(self, configuration: Configuration) -> None:
        """What is on one island is not two: a part of it refers to the rest."""
        for island in islands(configuration):
            owners = dict.fromkeys(island[:1], 0) | dict.fromkeys(island[1:], 1)
            if len(island) > 1:
                alone = part(configuration, owners, 0)
                rest = part(configuration, owners, 1)
                together = [*islands(alone), *islands(rest)]
                self.assertIn(island[:1], together)
                self.assertEqual(split(configuration, owners), [island])

    def test_alone(self) -> None:
        """What is not configured is an island of its own."""
        nobody = Thing(DEVICE, "x")
        self.assertEqual(island_of(Configuration(), nobody), (nobody,))


class PlaceTests(SynchronousTestCase):
    """
    Who has what.
    """

    @examples()
    @given(owned())
    def test_stays(self, given: tuple[Configuration, dict[Thing, int]]) -> None:
        """Who has something keeps it, and everything has somebody."""
        configuration, owners = given
        found = place(configuration, owners, WORKERS)
        self.assertEqual(set(found), set(things(configuration)))
        self.assertEqual({one: found[one] for one in owners}, owners)

    @examples()
    @given(archipelagos())
    def test_whole(self, configuration: Configuration) -> None:
        """An island that is new is in one worker, as it then stays."""
        found = place(configuration, {}, WORKERS)
        self.assertEqual(split(configuration, found), [])
        self.assertEqual(place(configuration, found, WORKERS), found)

    @examples()
    @given(owned())
    def test_order(self, given: tuple[Configuration, dict[Thing, int]]) -> None:
        """In which order objects were made makes no difference."""
        configuration, owners = given
        self.assertEqual(
            place(configuration, owners, WORKERS),
            place(backwards(configuration), owners, WORKERS),
        )

    @examples()
    @given(owned())
    def test_joins(self, given: tuple[Configuration, dict[Thing, int]]) -> None:
        """What is new of an island comes to somebody who has some of it."""
        configuration, owners = given
        found = place(configuration, owners, WORKERS)
        for island in islands(configuration):
            had = {owners[one] for one in island if one in owners}
            new = {found[one] for one in island if one not in owners}
            self.assertLessEqual(len(new), 1)
            if had:
                self.assertLessEqual(new, had)

    def test_least(self) -> None:
        """Islands of one target each are dealt out evenly, in the order of names."""
        targets = tuple(TargetConfiguration(name, {}) for name in NAMES)
        iscsi = DriverConfiguration("iscsi", {}, targets)
        found = place(Configuration(drivers=(iscsi,)), {}, range(4))
        self.assertEqual(
            [found[Thing(TARGET, one)] for one in NAMES], [0, 1, 2, 3, 0, 1]
        )

    def test_most(self) -> None:
        """What is new comes to who has most targets of its island, not most devices."""
        luns = tuple(map(LunConfiguration, range(4), "abcd"))
        target = TargetConfiguration(NAMES[0], {}, luns)
        configuration = Configuration(
            tuple(DISKS[one] for one in "abcd"),
            (DriverConfiguration("iscsi", {}, (target,)),),
        )
        owners = {Thing(TARGET, NAMES[0]): 2} | {Thing(DEVICE, one): 1 for one in "abc"}
        self.assertEqual(place(configuration, owners, WORKERS)[Thing(DEVICE, "d")], 2)


class PartTests(SynchronousTestCase):
    """
    What one worker is told.
    """

    @examples()
    @given(archipelagos())
    def test_sum(self, configuration: Configuration) -> None:
        """All parts together are the whole, and nothing is in two."""
        owners: Owners = place(configuration, {}, WORKERS)
        parts = [part(configuration, owners, one) for one in WORKERS]
        self.assertEqual(
            sorted(one for each in parts for one in things(each)),
            sorted(things(configuration)),
        )
        self.assertEqual(
            {island for each in parts for island in islands(each)},
            set(islands(configuration)),
        )

    @examples()
    @given(archipelagos())
    def test_nowhere(self, configuration: Configuration) -> None:
        """A worker has every driver, with the attributes of all, and no portal."""
        found = part(configuration, {}, 0)
        (driver,) = found.drivers
        self.assertEqual(driver.values["portal"], ())
        self.assertEqual(found.values, configuration.values)


TREE = "targets/iscsi/iqn.2026-11.org.scstd:u"
U = Thing(TARGET, NAMES[0])


class PathTests(SynchronousTestCase):
    """
    Whose a path is.
    """

    def test_paths(self) -> None:
        """Devices, targets and device groups are somebody's, with what is in them."""
        for path, thing, clean in (
            ("", None, ""),
            ("/devices/", None, "devices"),
            ("devices/a", Thing(DEVICE, "a"), "devices/a"),
            ("/devices//a/./size", Thing(DEVICE, "a"), "devices/a/size"),
            ("handlers/vdisk_fileio/a/size", Thing(DEVICE, "a"), "devices/a/size"),
            ("handlers/vdisk_fileio", None, "handlers/vdisk_fileio"),
            ("targets/iscsi", None, "targets/iscsi"),
            (f"{TREE}/luns/0", U, f"{TREE}/luns/0"),
            (TREE.upper().replace("TARGETS/ISCSI", "targets/iscsi"), U, None),
            ("targets/nobody/x", None, "targets/nobody/x"),
            ("device_groups/g/devices", Thing(GROUP, "g"), "device_groups/g/devices"),
        ):
            found, where = thing_at(path)
            self.assertEqual(found, thing, path)
            if clean is not None:
                self.assertEqual(where, clean)

    def test_verbs(self) -> None:
        """What a verb makes and ties."""
        a, g = Thing(DEVICE, "a"), Thing(GROUP, "g")
        for path, words, wanted in (
            ("handlers/vdisk_fileio", "add_device a", About(a, made=True)),
            ("handlers/vdisk_fileio", "del_device a", About(a)),
            ("targets/iscsi", f"add_target {NAMES[0]}", About(U, made=True)),
            ("targets/iscsi", f"del_target {NAMES[0]}", About(U)),
            ("targets/iscsi", f"set_target_attribute {NAMES[0]} x", About(U)),
            ("targets/iscsi", "set_attribute enabled 1", About(None)),
            (f"{TREE}/luns", "add a 0", About(U, tied=a)),
            (f"{TREE}/ini_groups/i/luns", "replace_no_ua a 0", About(U, tied=a)),
            (f"{TREE}/luns", "del 0", About(U)),
            (f"{TREE}/ini_groups/i/initiators", "add a", About(U)),
            ("device_groups", "create g", About(g, made=True)),
            ("device_groups", "del g", About(g)),
            ("device_groups/g/devices", "add a", About(g, tied=a)),
            ("device_groups/g/devices", "del a", About(g)),
            ("device_groups/g/target_groups", "create a", About(g)),
            ("device_groups/g/target_groups/t", f"add {NAMES[0]}", About(g, tied=U)),
        ):
            verb, *rest = words.split()
            self.assertEqual(about(path, verb, rest), wanted, (path, words))
