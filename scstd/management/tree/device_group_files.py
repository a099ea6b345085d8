# SPDX-License-Identifier: MIT
"""
Device groups in the tree, in SCST's layout: ``device_groups/GROUP/devices/``, and
``device_groups/GROUP/target_groups/GROUP/`` with a link for each target of ours, and a
directory with ``rel_tgt_id`` for each port of another node.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from scstd.management.model.group_configuration import (
    DEVICE_GROUP_ATTRIBUTES,
    NUMBER,
    PORT_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES,
)
from scstd.management.ports.device_groups import DeviceGroups
from scstd.management.tree.mgmt import Mgmt, Verb
from scstd.management.tree.nodes import KEY, Attributes, Directory, File, Link


def device_groups(groups: DeviceGroups) -> Directory:
    """
    Return the directory.
    """
    verbs = (
        Verb(
            "create",
            ("GROUP",),
            "Make a device group, without devices and target groups.",
            groups.create,
        ),
        Verb(
            "del",
            ("GROUP",),
            "Remove a device group: every port reaches its devices alike again.",
            groups.remove,
        ),
    )
    return Directory(
        {"mgmt": Mgmt(verbs=verbs)},
        names=lambda: groups,
        make=partial(_group, groups),
    )


def _group(groups: DeviceGroups, name: str) -> Directory:
    live = groups.find(name)
    devices = (
        Verb(
            "add",
            ("DEVICE",),
            "Take a device in; it can be in one device group.",
            partial(groups.add_device, name),
        ),
        Verb(
            "del", ("DEVICE",), "Let a device go.", partial(groups.remove_device, name)
        ),
    )
    targets = (
        Verb(
            "create",
            ("GROUP",),
            "Make a target group, active and without targets.",
            partial(groups.create_target_group, name),
            aliases=("add",),
        ),
        Verb(
            "del",
            ("GROUP",),
            "Remove a target group.",
            partial(groups.remove_target_group, name),
        ),
    )
    return Directory(
        {
            "devices": Directory(
                {"mgmt": Mgmt(verbs=devices)},
                names=lambda: [unit.name for unit in live.devices.units],
                make=lambda name: Link(f"devices/{name}"),
            ),
            "target_groups": Directory(
                {"mgmt": Mgmt(verbs=targets)},
                names=lambda: live.devices.groups,
                make=partial(_target_group, groups, name),
            ),
        },
        attributes=Attributes(
            DEVICE_GROUP_ATTRIBUTES,
            lambda: live.values,
            live.set,
        ),
    )


def _target_group(groups: DeviceGroups, device_group: str, name: str) -> Directory:
    live = groups.find(device_group)
    group = groups.target_group(device_group, name)

    def change(attribute: str, value: Any) -> Any:
        if attribute == "state":
            return live.set_state(name, value)
        if attribute == "preferred":
            return live.set_preferred(name, value)
        return live.set_group_id(name, value)

    def port(which: str) -> Directory | Link:
        ours = groups.drivers.targets.get(which)
        if ours is not None:
            driver = groups.drivers.of(ours).name
            return Link(f"targets/{driver}/{ours.name}")
        own = Attributes(
            PORT_ATTRIBUTES,
            lambda: {NUMBER: group.ports[which].relative_id or None},
            lambda _attribute, value: groups.number_port(which, value),
        )
        return Directory(
            # 0 is none, and there is always something to be saved: SCST's tool would
            # leave the port out of its file.
            {
                NUMBER: File(
                    lambda: f"{group.ports[which].relative_id or 0}\n{KEY}",
                    own.files()[NUMBER].writer,
                )
            },
            attributes=own,
        )

    verbs = (
        Verb(
            "add",
            ("TARGET",),
            "Add a target of ours, or a port of another node by its name.",
            partial(groups.add_port, device_group, name),
            rows=PORT_ATTRIBUTES,
        ),
        Verb(
            "del",
            ("TARGET",),
            "Take a target out.",
            partial(groups.remove_port, device_group, name),
        ),
    )
    return Directory(
        {
            "mgmt": Mgmt(verbs=verbs),
            "ports": File(
                lambda: "\n".join(
                    f"{port.name} {port.relative_port}" for port in group.ports.values()
                )
            ),
        },
        names=lambda: group.ports,
        make=port,
        attributes=Attributes(
            TARGET_GROUP_ATTRIBUTES,
            lambda: {
                "group_id": group.group_id,
                "state": group.state.name.lower(),
                "preferred": group.preferred,
            },
            change,
        ),
    )
