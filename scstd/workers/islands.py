# SPDX-License-Identifier: MIT
"""
Islands: what of a configuration has to be in one worker, and which worker has it.

A target, the devices of its LUNs and of those of its groups of initiators, the device
groups that these devices are in and that have the target's port, and so on: whatever
one command could touch is one *island*.  Islands share nothing, so each can be in a
process of its own.

All of it is pure: from a `Configuration`, and from who has what now, follows who is to
have what.  What somebody has, stays there; what is new goes to who has least.  The same
questions have the same answers, in whatever order the objects were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from scstd.attributes import ConfigurationError
from scstd.management.model.configuration import Configuration, TargetConfiguration
from scstd.plugin import find_target_driver, known_name, qualified_name

DEVICE, TARGET, GROUP = "device", "target", "device group"


@attrs.frozen(order=True)
class Thing:
    """
    What a worker has: a device, a target by its qualified name, or a device group.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        """Return it as a message names it."""
        return f"{self.kind} {self.name}"


Island = tuple[Thing, ...]
"""Things of one island, in the order of the configuration."""

Owners = Mapping[Thing, int]
"""The number of the worker that has each thing, from 0."""


def things(configuration: Configuration) -> list[Thing]:
    """
    Return everything that some worker has to have, in the order of the configuration.
    """
    return [
        *(Thing(DEVICE, one.name) for one in configuration.devices),
        *(Thing(TARGET, name) for name in configuration.rel_tgt_ids()),
        *(Thing(GROUP, one.name) for one in configuration.device_groups),
    ]


def _ties(configuration: Configuration) -> Iterator[tuple[Thing, Thing]]:
    """
    Yield what is tied to what.
    """
    for driver in configuration.drivers:
        for target in driver.targets:
            own = Thing(TARGET, qualified_name(driver.name, target.name))
            for device in _devices(target):
                yield own, Thing(DEVICE, device)
    for one in configuration.device_groups:
        own = Thing(GROUP, one.name)
        for device in one.devices:
            yield own, Thing(DEVICE, device)
        for group in one.groups:
            # A port of another node is no thing of ours.
            for port in group.ports:
                yield own, Thing(TARGET, port)


def _devices(target: TargetConfiguration) -> Iterator[str]:
    for luns in (target.luns, *(group.luns for group in target.groups)):
        yield from (one.device for one in luns)


def islands(configuration: Configuration) -> list[Island]:
    """
    Return the islands, in the order of their first things.
    """
    above: dict[Thing, Thing] = {one: one for one in things(configuration)}

    def top(one: Thing) -> Thing:
        while above[one] is not one:
            above[one] = above[above[one]]
            one = above[one]
        return one

    for one, other in _ties(configuration):
        if one in above and other in above:
            above[top(other)] = top(one)
    found: dict[Thing, list[Thing]] = {}
    for one in above:
        found.setdefault(top(one), []).append(one)
    return [tuple(island) for island in found.values()]


def island_of(configuration: Configuration, wanted: Thing) -> Island:
    """
    Return the island of a thing; one that is not configured is alone.
    """
    for island in islands(configuration):
        if wanted in island:
            return island
    return (wanted,)


def _weight(island: Iterable[Thing]) -> tuple[int, int]:
    """
    Return what an island is to a worker: targets, then devices.
    """
    kinds = [one.kind for one in island]
    return kinds.count(TARGET), kinds.count(DEVICE)


def place(
    configuration: Configuration, owners: Owners, workers: Iterable[int]
) -> dict[Thing, int]:
    """
    Return who of *workers* is to have each thing of a configuration.  What *owners*
    says of a thing stays so; what is new goes to the worker that has most of its
    island, and with nobody there to the one that has the fewest targets, then devices,
    then the lowest number.  Islands that several then have a part of: `split`.
    """
    found: dict[Thing, int] = {}
    new: list[Island] = []
    for island in islands(configuration):
        had = [one for one in island if one in owners]
        found.update((one, owners[one]) for one in had)
        if not had:
            new.append(island)
            continue
        home = best(had, owners)
        found.update((one, home) for one in island if one not in owners)
    loads = {number: [0, 0] for number in workers}
    for one, worker in found.items():
        if worker in loads:
            loads[worker][0] += one.kind == TARGET
            loads[worker][1] += one.kind == DEVICE
    # The heaviest first, so that what comes last evens out; and then by their names.
    for island in sorted(new, key=lambda one: (*(-n for n in _weight(one)), min(one))):
        home = min(loads, key=lambda number: (*loads[number], number))
        targets, devices = _weight(island)
        loads[home][0] += targets
        loads[home][1] += devices
        found.update((one, home) for one in island)
    return {one: found[one] for one in things(configuration)}


def best(island: Iterable[Thing], owners: Owners) -> int:
    """
    Return the worker that has most of an island: targets, then devices, then the lowest
    number.
    """
    shares: dict[int, list[Thing]] = {}
    for one in island:
        shares.setdefault(owners[one], []).append(one)
    return min(
        shares, key=lambda worker: (*(-n for n in _weight(shares[worker])), worker)
    )


def split(configuration: Configuration, owners: Owners) -> list[Island]:
    """
    Return the islands that more than one worker has a part of.
    """
    return [
        island
        for island in islands(configuration)
        if len({owners[one] for one in island if one in owners}) > 1
    ]


def part(configuration: Configuration, owners: Owners, worker: int) -> Configuration:
    """
    Return what one worker is to have: its devices, targets and device groups, and the
    attributes of the whole and of every driver; but no portals, for it listens nowhere.
    """

    def mine(kind: str, name: str) -> bool:
        return owners.get(Thing(kind, name)) == worker

    return attrs.evolve(
        configuration,
        devices=tuple(one for one in configuration.devices if mine(DEVICE, one.name)),
        drivers=tuple(
            attrs.evolve(
                driver,
                values={**driver.values, "portal": ()},
                targets=tuple(
                    target
                    for target in driver.targets
                    if mine(TARGET, qualified_name(driver.name, target.name))
                ),
            )
            for driver in configuration.drivers
        ),
        device_groups=tuple(
            one for one in configuration.device_groups if mine(GROUP, one.name)
        ),
    )


# Whose a path is.


def thing_at(path: str) -> tuple[Thing | None, str]:
    """
    Return whose a path of the tree is, or would be if there were such a thing, and the
    path with the links that lead there replaced: ``devices/D``,
    ``targets/DRIVER/TARGET``, ``device_groups/G``, each with all below it, and
    ``handlers/HANDLER/D``, which is a link.  What else there is has no single owner.
    """
    parts = [one for one in path.split("/") if one and one != "."]
    clean = "/".join(parts)
    if len(parts) > 2 and parts[0] == "handlers":
        found = Thing(DEVICE, parts[2])
        return found, "/".join(("devices", *parts[2:]))
    if len(parts) > 1 and parts[0] == "devices":
        return Thing(DEVICE, parts[1]), clean
    if len(parts) > 1 and parts[0] == "device_groups":
        return Thing(GROUP, parts[1]), clean
    if len(parts) > 2 and parts[0] == "targets":
        return _target(parts[1], parts[2]), clean
    return None, clean


def _target(driver: str, name: str) -> Thing | None:
    try:
        known = known_name(find_target_driver(driver), name)
    except ConfigurationError:
        return None
    return Thing(TARGET, qualified_name(driver, known))


@attrs.frozen
class About:
    """
    What a verb of a ``mgmt`` file is about: *thing* is whose it is (None: everybody's),
    *made* says that the verb makes it, *tied* is what comes to be of its island.
    """

    thing: Thing | None
    made: bool = False
    tied: Thing | None = None


_OF_TARGET = {
    "del_target",
    "add_target_attribute",
    "del_target_attribute",
    "set_target_attribute",
}
_TYING = {"add", "replace", "replace_no_ua"}


def about(path: str, verb: str, words: Sequence[str]) -> About:
    """
    Return what a verb of the ``mgmt`` file in the directory *path* is about; the words
    are there that have to be.
    """
    thing, clean = thing_at(path)
    parts = clean.split("/")
    first = words[0] if words else ""
    if parts[0] == "handlers" and len(parts) == 2:
        return About(Thing(DEVICE, first), made=verb == "add_device")
    if parts[0] == "targets" and len(parts) == 2:
        if verb in _OF_TARGET or verb == "add_target":
            return About(_target(parts[1], first), made=verb == "add_target")
        return About(None)
    if parts == ["device_groups"]:
        return About(Thing(GROUP, first), made=verb in {"create", "add"})
    tied = None
    if verb in _TYING and parts[-1] == "luns" and parts[0] == "targets":
        tied = Thing(DEVICE, first)
    elif verb == "add" and parts[0] == "device_groups" and len(parts) == 3:
        tied = Thing(DEVICE, first) if parts[2] == "devices" else None
    elif verb == "add" and parts[0] == "device_groups" and len(parts) == 4:
        tied = Thing(TARGET, first)
    return About(thing, tied=tied)
