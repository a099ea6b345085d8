# SPDX-License-Identifier: MIT
"""
The commands of ``scstadmin`` that change something, a row each.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Action:
    """
    A command.

    With none of *verb* and *text* each of ``-attributes`` is written to its file in the
    directory, or, with *each*, is said to that verb.
    """

    option: str
    word: str
    help: str
    path: str
    """
    Has options' names in braces, as *words* have; ``{luns}`` is the LUN directory of
    the target or of its group.
    """
    verb: str = ""
    """What is written to the directory's ``mgmt`` file."""
    words: tuple[str, ...] = ()
    text: str = ""
    """What is written to the file at *path*."""
    each: str = ""
    """The verb for each of ``-attributes``."""
    attributes: bool = False
    confirm: bool = False
    """A person is asked first."""

    @property
    def needs(self) -> list[str]:
        """The options that it needs besides its own."""
        said = " ".join((self.path, *self.words))
        found = [name for name in OPTIONS if f"{{{name}}}" in said]
        if "{luns}" in said:
            found = [*dict.fromkeys(("driver", "target", *found))]
        return found


OPTIONS = {
    "driver": "the target driver",
    "target": "the target",
    "group": "the group of initiators; without it the LUNs are the target's own",
    "handler": "the device handler",
    "device": "the device",
    "dev_group": "the device group",
    "to": "the group that takes it",
    "tgt_group": "the target group",
}
"""The options that name an object, and their help."""

_TARGET = "targets/{driver}/{target}"
_GROUPS = f"{_TARGET}/ini_groups"
_DEVICE_GROUP = "device_groups/{dev_group}"
_TARGET_GROUP = f"{_DEVICE_GROUP}/target_groups/{{tgt_group}}"
_INITIATORS = f"{_GROUPS}/{{group}}/initiators"
_VALUE = ("{value}",)

ACTIONS = (
    Action(
        "open_dev",
        "DEVICE",
        "open a device",
        "handlers/{handler}",
        "add_device",
        ("{value}",),
        attributes=True,
    ),
    Action(
        "close_dev",
        "DEVICE",
        "close a device (-force: with its LUNs)",
        "handlers/{handler}",
        "del_device",
        ("{value}",),
        confirm=True,
    ),
    Action(
        "resync_dev",
        "DEVICE",
        "look at a device's size again",
        "devices/{value}/resync_size",
        text="1",
    ),
    Action(
        "add_target",
        "TARGET",
        "make a target",
        "targets/{driver}",
        "add_target",
        ("{value}",),
        attributes=True,
    ),
    Action(
        "rem_target",
        "TARGET",
        "end a target and its sessions",
        "targets/{driver}",
        "del_target",
        ("{value}",),
        confirm=True,
    ),
    Action(
        "enable_target",
        "TARGET",
        "let initiators in",
        "targets/{driver}/{value}/enabled",
        text="1",
    ),
    Action(
        "disable_target",
        "TARGET",
        "let no more initiators in",
        "targets/{driver}/{value}/enabled",
        text="0",
        confirm=True,
    ),
    Action("add_group", "GROUP", "add a group", _GROUPS, "create", ("{value}",)),
    Action(
        "rem_group",
        "GROUP",
        "remove a group",
        _GROUPS,
        "del",
        ("{value}",),
        confirm=True,
    ),
    Action(
        "add_init",
        "INITIATOR",
        "add an initiator to a group",
        _INITIATORS,
        "add",
        ("{value}",),
    ),
    Action(
        "rem_init",
        "INITIATOR",
        "remove an initiator from a group",
        _INITIATORS,
        "del",
        ("{value}",),
        confirm=True,
    ),
    Action(
        "move_init",
        "INITIATOR",
        "move an initiator to the group -to",
        _INITIATORS,
        "move",
        ("{value}", "{to}"),
        confirm=True,
    ),
    Action(
        "clear_inits",
        "",
        "remove all initiators of a group",
        _INITIATORS,
        "clear",
        confirm=True,
    ),
    Action(
        "add_lun",
        "LUN",
        "add a LUN",
        "{luns}",
        "add",
        ("{device}", "{value}"),
        attributes=True,
    ),
    Action(
        "replace_lun",
        "LUN",
        "put another device at a LUN",
        "{luns}",
        "replace",
        ("{device}", "{value}"),
        attributes=True,
        confirm=True,
    ),
    Action(
        "rem_lun",
        "LUN",
        "take a LUN away",
        "{luns}",
        "del",
        ("{value}",),
        confirm=True,
    ),
    Action("clear_luns", "", "take all LUNs away", "{luns}", "clear", confirm=True),
    Action(
        "close_session",
        "INITIATOR",
        "end a session",
        f"{_TARGET}/sessions/{{value}}/force_close",
        text="1",
        confirm=True,
    ),
    Action(
        "add_dgrp", "DGROUP", "make a device group", "device_groups", "create", _VALUE
    ),
    Action(
        "rem_dgrp",
        "DGROUP",
        "remove a device group",
        "device_groups",
        "del",
        _VALUE,
        confirm=True,
    ),
    Action(
        "add_dgrp_dev",
        "DEVICE",
        "take a device into a device group",
        f"{_DEVICE_GROUP}/devices",
        "add",
        _VALUE,
    ),
    Action(
        "rem_dgrp_dev",
        "DEVICE",
        "let a device of a device group go",
        f"{_DEVICE_GROUP}/devices",
        "del",
        _VALUE,
        confirm=True,
    ),
    Action(
        "add_tgrp",
        "TGROUP",
        "make a target group in a device group",
        f"{_DEVICE_GROUP}/target_groups",
        "create",
        _VALUE,
    ),
    Action(
        "rem_tgrp",
        "TGROUP",
        "remove a target group",
        f"{_DEVICE_GROUP}/target_groups",
        "del",
        _VALUE,
        confirm=True,
    ),
    Action(
        "add_tgrp_tgt",
        "TARGET",
        "add a target, or another node's port, to a target group",
        _TARGET_GROUP,
        "add",
        _VALUE,
        attributes=True,
    ),
    Action(
        "rem_tgrp_tgt",
        "TARGET",
        "take a target out of a target group",
        _TARGET_GROUP,
        "del",
        _VALUE,
        confirm=True,
    ),
    Action(
        "set_dgrp_attr",
        "DGROUP",
        "change a device group",
        "device_groups/{value}",
        attributes=True,
    ),
    Action(
        "set_tgrp_attr",
        "TGROUP",
        "change a target group",
        f"{_DEVICE_GROUP}/target_groups/{{value}}",
        attributes=True,
    ),
    Action(
        "set_ttgt_attr",
        "TARGET",
        "change a target of a target group",
        f"{_TARGET_GROUP}/{{value}}",
        attributes=True,
    ),
    Action("set_scst_attr", "", "change the whole", "", attributes=True),
    Action(
        "set_drv_attr", "DRIVER", "change a driver", "targets/{value}", attributes=True
    ),
    Action(
        "set_tgt_attr",
        "TARGET",
        "change a target",
        "targets/{driver}/{value}",
        attributes=True,
    ),
    Action(
        "set_dev_attr", "DEVICE", "change a device", "devices/{value}", attributes=True
    ),
    Action("set_lun_attr", "LUN", "change a LUN", "{luns}/{value}", attributes=True),
    Action(
        "set_grp_attr",
        "GROUP",
        "change a group",
        f"{_GROUPS}/{{value}}",
        attributes=True,
    ),
    Action(
        "set_init_attr",
        "INITIATOR",
        "change an initiator of a group",
        f"{_INITIATORS}/{{value}}",
        attributes=True,
    ),
    Action(
        "set_hnd_attr",
        "HANDLER",
        "change a handler",
        "handlers/{value}",
        attributes=True,
    ),
    Action(
        "add_drv_attr",
        "DRIVER",
        "add values to attributes of a driver",
        "targets/{value}",
        each="add_attribute",
        attributes=True,
    ),
    Action(
        "rem_drv_attr",
        "DRIVER",
        "remove values from attributes of a driver",
        "targets/{value}",
        each="del_attribute",
        attributes=True,
        confirm=True,
    ),
    Action(
        "add_tgt_attr",
        "TARGET",
        "add values to attributes of a target",
        "targets/{driver}",
        words=("{value}",),
        each="add_target_attribute",
        attributes=True,
    ),
    Action(
        "rem_tgt_attr",
        "TARGET",
        "remove values from attributes of a target",
        "targets/{driver}",
        words=("{value}",),
        each="del_target_attribute",
        attributes=True,
        confirm=True,
    ),
)
