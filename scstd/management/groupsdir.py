# SPDX-License-Identifier: MIT
"""
Device groups in the tree: ``device_groups/GROUP/{devices/,target_groups/,...}``.

A group's members are settled when it is made, by scst.conf; its states are live.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from scstd.management.entries import Attributes, Directory, File, Link, Mgmt, Verb
from scstd.management.groups import (
    DEVICE_GROUP_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES,
    LiveGroup,
)
from scstd.management.system import System


def device_groups(system: System) -> Directory:
    """
    Return the directory.
    """
    remove = Verb(
        "del",
        ("GROUP",),
        "Have the group's devices reached by every port alike again.",
        system.remove_device_group,
    )
    return Directory(
        {"mgmt": Mgmt(verbs=(remove,))},
        names=lambda: system.device_groups,
        make=lambda name: _group(system.device_group(name)),
    )


def _group(live: LiveGroup) -> Directory:
    return Directory(
        {
            "devices": Directory(
                names=lambda: [unit.name for unit in live.devices.units],
                make=lambda name: Link(f"devices/{name}"),
            ),
            "target_groups": Directory(
                names=lambda: live.devices.groups,
                make=partial(_target_group, live),
            ),
        },
        attributes=Attributes(
            DEVICE_GROUP_ATTRIBUTES,
            lambda: {"transition_time": live.transition_time},
            lambda _name, value: live.set_transition_time(value),
        ),
    )


def _target_group(live: LiveGroup, name: str) -> Directory:
    group = live.devices.groups[name]

    def change(attribute: str, value: Any) -> Any:
        if attribute == "state":
            return live.set_state(name, value)
        if attribute == "preferred":
            return live.set_preferred(name, value)
        return live.set_group_id(name, value)

    return Directory(
        {
            "ports": File(
                lambda: "\n".join(
                    f"{port.name} {port.relative_port}" for port in group.ports.values()
                )
            )
        },
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
