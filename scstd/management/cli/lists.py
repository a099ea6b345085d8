# SPDX-License-Identifier: MIT
"""
The lists of ``scstadmin``: tables for people, JSON for programs.

In JSON numbers are numbers, and what is yes or no is true or false, null where there is
none.  Values of attributes are SCST's texts: those that are whole numbers, or seconds,
become numbers, a flag's 0 and 1 too, but for those of `TEXTS`, which only look so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import attrs

from scstd.management.cli.tools import DONE, show, table
from scstd.management.control.client import Client
from scstd.management.control.commands import FailedError

Given = Mapping[str, Any]
Found = tuple[list[str], list[list[Any]]]


@attrs.frozen
class Listing:
    """
    A ``-list_...`` command: *find* returns the head and the rows of its table.

    *word* is what its argument names; *needs* are the options it needs.
    """

    option: str
    word: str
    help: str
    find: Callable[[Client, str, Given], Coroutine[Any, Any, Found]]
    needs: tuple[str, ...] = ()
    optional: bool = True

    async def show(self, given: Given, client: Client) -> int:
        """
        Print the list; return the exit status.
        """
        head, rows = await self.find(client, given[self.option], given)
        if given["json"]:
            show(json.dumps([_as_object(head, row) for row in rows]))
        else:
            show(table(head, rows) if rows else "There is nothing to list.")
        return DONE


_NUMBERS = frozenset(
    (
        *("bytes", "sessions", "targets", "luns", "groups", "lun", "commands"),
        *("active_commands", "read_io_count_kb", "write_io_count_kb", "group_id"),
    )
)
_FLAGS = frozenset(("enabled", "read_only", "preferred", "key"))
"""Columns of lists."""

TEXTS = frozenset(
    (
        *("alias", "comment", "filename"),
        *("filter", "management_url", "internal_portal"),
        *("initiators_allow", "initiators_deny", "iSNSServer"),
        *("isns_entity_name", "inq_vend_specific", "prod_id"),
        *("prod_rev_lvl", "state_key", "t10_dev_id"),
        *("t10_vend_id", "usn", "vend_specific_id"),
        *("naa_id", "eui64_id", "scsi_device_name"),
        *("serial", "naa", "uuid"),
        *("version", "last_error", "IncomingUser"),
        *("OutgoingUser", "allowed_portal", "redirect"),
        *("sid", "isid"),
    )
)
"""Attributes of which a value may look like a number and is none."""


def _as_object(head: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """
    Return a row of a list for programs.
    """
    return {
        column: (
            number(row[0], cell)
            if column == "value" and head[0] == "attribute"
            else _cell(column, cell)
        )
        for column, cell in zip(head, row, strict=True)
    }


def _cell(column: str, cell: Any) -> Any:
    if column in _FLAGS:
        return None if cell == "-" else cell in {"1", "yes"}
    if column in _NUMBERS and isinstance(cell, str):
        if cell in {"", "-"}:
            return None
        return int(cell) if cell.isascii() and cell.isdigit() else cell
    return cell


def number(name: str, text: str) -> int | float | str:
    """
    Return the value of an attribute: a number, if it is one.
    """
    if name.rstrip("0123456789") in TEXTS or name in TEXTS:
        return text
    if re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?[0-9]{1,9}\.[0-9]{1,9}", text) else text


def plain(text: Any) -> tuple[str, str]:
    """
    Return an attribute's value, and whether it differs from the default.
    """
    value = "" if text is None else str(text)
    if value == "[key]" or value.endswith("\n[key]"):
        return value.removesuffix("[key]").removesuffix("\n"), "yes"
    return value, ""


def _there(rows: list[list[Any]], what: str, only: str) -> list[list[Any]]:
    """
    Return *rows*.

    :raises FailedError: *only* one was asked for, and it is not there.
    """
    if only and not rows:
        raise FailedError(f"ENOENT there is no {what} {only!r}")
    return rows


async def _broken(client: Client, file: str, only: str = "") -> list[list[Any]]:
    """
    Return rows for plugins that cannot be used: name and reason, and an empty column.
    """
    lines = (await client.read(file)).splitlines()
    pairs = [line.partition(": ") for line in lines if line]
    return [
        [name, f"cannot be used: {why}", ""]
        for name, _colon, why in pairs
        if not only or name == only
    ]


async def _handlers(client: Client, only: str, _given: Given) -> Found:
    found = await client.dump("handlers", 1)
    rows = [
        [
            name,
            plain(what["summary"])[0],
            " ".join(one for one in what if isinstance(what[one], dict)),
        ]
        for name, what in found.items()
        if not only or name == only
    ]
    rows += await _broken(client, "broken_handlers", only)
    return ["handler", "summary", "devices"], _there(rows, "device handler", only)


async def _devices(client: Client, only: str, _given: Given) -> Found:
    wanted = ("handler", "current_size", "serial", "sessions", "state")
    if only:
        found = {only: await client.dump(f"devices/{only}", 0, wanted)}
    else:
        found = await client.dump("devices", 1, wanted)
    rows = [
        [
            name,
            what["handler"]["link"].rpartition("/")[2],
            *(what[one] for one in wanted[1:]),
        ]
        for name, what in found.items()
    ]
    return ["device", "handler", "bytes", "serial", "sessions", "state"], rows


async def _drivers(client: Client, only: str, _given: Given) -> Found:
    names = [only] if only else await client.names("targets")
    rows = []
    for name in names:
        what = await client.dump(f"targets/{name}", 0)
        targets = sum(isinstance(one, dict) for one in what.values())
        rows.append([name, plain(what["enabled"])[0], targets])
    if not only:
        for name, why, _empty in await _broken(client, "broken_drivers"):
            rows.append([f"{name} {why}", "-", "-"])
    return ["driver", "enabled", "targets"], rows


async def _each_target(
    client: Client, given: Given, depth: int, only: Sequence[str] = ()
) -> list[tuple[str, str, dict[str, Any]]]:
    drivers = [given["driver"]] if given["driver"] else await client.names("targets")
    found = []
    for driver in drivers:
        there = await client.dump(f"targets/{driver}", depth, only)
        for name, what in there.items():
            if isinstance(what, dict) and given["target"] in {None, name}:
                found.append((driver, name, what))
    return found


async def _targets(client: Client, only: str, given: Given) -> Found:
    rows = [
        [
            driver,
            name,
            plain(what["enabled"])[0],
            len(what["luns"]),
            len(what["ini_groups"]),
            len(what["sessions"]),
        ]
        for driver, name, what in await _each_target(client, given, 2, ("enabled",))
        if not only or name == only
    ]
    head = ["driver", "target", "enabled", "luns", "groups", "sessions"]
    return head, _there(rows, "target", only)


async def _groups(client: Client, only: str, given: Given) -> Found:
    rows = []
    for driver, target, what in await _each_target(client, given, 6):
        maps = {"": what["luns"]}
        maps.update((name, one["luns"]) for name, one in what["ini_groups"].items())
        for group, luns in maps.items():
            if only and only != group:
                continue
            names = (
                " ".join(what["ini_groups"][group]["initiators"])
                if group
                else "(others)"
            )
            for lun, entry in luns.items() or [("-", None)]:
                device = entry["device"]["link"].partition("/")[2] if entry else "-"
                read_only = plain(entry["read_only"])[0] if entry else "-"
                rows.append([driver, target, group, names, lun, device, read_only])
    head = ["driver", "target", "group", "initiators", "lun", "device", "read_only"]
    return head, _there(rows, "group", only)


async def _sessions(client: Client, only: str, given: Given) -> Found:
    columns = (
        "ip",
        "commands",
        "active_commands",
        "read_io_count_kb",
        "write_io_count_kb",
    )
    rows = []
    for driver, target, what in await _each_target(client, given, 3):
        for name, session in what["sessions"].items():
            if not only or name == only:
                values = [session.get(column, "") for column in columns]
                rows.append([driver, target, name, *values])
    return ["driver", "target", "session", *columns], _there(rows, "session", only)


async def _device_groups(client: Client, only: str, _given: Given) -> Found:
    found = await client.dump("device_groups", 3)
    rows = []
    for name, what in found.items():
        if isinstance(what, dict) and (not only or name == only):
            members = [
                " ".join(one for one in what[part] if one != "mgmt")
                for part in ("devices", "target_groups")
            ]
            rows.append([name, *members])
    return ["group", "devices", "target groups"], _there(rows, "device group", only)


async def _target_groups(client: Client, only: str, given: Given) -> Found:
    found = await client.dump(f"device_groups/{given['dev_group']}/target_groups", 2)
    rows = [
        [
            name,
            *(plain(what[one])[0] for one in ("group_id", "state", "preferred")),
            plain(what["ports"])[0].replace("\n", ", "),
        ]
        for name, what in found.items()
        if isinstance(what, dict) and (not only or name == only)
    ]
    head = ["group", "group_id", "state", "preferred", "targets"]
    return head, _there(rows, "target group", only)


def _attributes(path: str) -> Callable[[Client, str, Given], Any]:
    """
    Return what lists the attributes of the object at a path.
    """

    async def find(client: Client, only: str, given: Given) -> Found:
        group = f"ini_groups/{given['group']}/luns" if given["group"] else "luns"
        luns = f"targets/{given['driver']}/{given['target']}/{group}"
        where = path.format_map({**given, "value": only, "luns": luns})
        found = await client.dump(where, 0)
        return ["attribute", "value", "key"], [
            [name, *plain(value)]
            for name, value in found.items()
            if not isinstance(value, dict)
        ]

    return find


async def _initiator_attributes(client: Client, only: str, given: Given) -> Found:
    """
    Return nothing: a name of a group has no attributes, in SCST neither.
    """
    where = "targets/{driver}/{target}/ini_groups/{group}/initiators".format_map(given)
    if only not in await client.names(where):
        raise FailedError(f"ENOENT there is no initiator {only!r}")
    return ["attribute", "value", "key"], []


LISTS = (
    Listing("list_handler", "HANDLER", "device handlers", _handlers),
    Listing("list_device", "DEVICE", "devices", _devices),
    Listing("list_driver", "DRIVER", "target drivers", _drivers),
    Listing("list_target", "TARGET", "targets", _targets),
    Listing("list_group", "GROUP", "LUN maps and groups", _groups),
    Listing("list_dgrp", "DGROUP", "device groups", _device_groups),
    Listing(
        "list_tgrp",
        "TGROUP",
        "target groups of a device group",
        _target_groups,
        ("dev_group",),
    ),
    Listing("list_sessions", "INITIATOR", "sessions", _sessions),
    Listing("list_scst_attr", "", "attributes of the whole", _attributes("")),
    Listing(
        "list_hnd_attr",
        "HANDLER",
        "attributes of a handler",
        _attributes("handlers/{value}"),
        optional=False,
    ),
    Listing(
        "list_dev_attr",
        "DEVICE",
        "attributes of a device",
        _attributes("devices/{value}"),
        optional=False,
    ),
    Listing(
        "list_drv_attr",
        "DRIVER",
        "attributes of a driver",
        _attributes("targets/{value}"),
        optional=False,
    ),
    Listing(
        "list_tgt_attr",
        "TARGET",
        "attributes of a target",
        _attributes("targets/{driver}/{value}"),
        ("driver",),
        optional=False,
    ),
    Listing(
        "list_grp_attr",
        "GROUP",
        "attributes of a group",
        _attributes("targets/{driver}/{target}/ini_groups/{value}"),
        ("driver", "target"),
        optional=False,
    ),
    Listing(
        "list_lun_attr",
        "LUN",
        "attributes of a LUN",
        _attributes("{luns}/{value}"),
        ("driver", "target"),
        optional=False,
    ),
    Listing(
        "list_init_attr",
        "INITIATOR",
        "attributes of an initiator of a group",
        _initiator_attributes,
        ("driver", "target", "group"),
        optional=False,
    ),
    Listing(
        "list_dgrp_attr",
        "DGROUP",
        "attributes of a device group",
        _attributes("device_groups/{value}"),
        optional=False,
    ),
    Listing(
        "list_tgrp_attr",
        "TGROUP",
        "attributes of a target group",
        _attributes("device_groups/{dev_group}/target_groups/{value}"),
        ("dev_group",),
        optional=False,
    ),
    Listing(
        "list_ttgt_attr",
        "TARGET",
        "attributes of a target of a target group",
        _attributes("device_groups/{dev_group}/target_groups/{tgt_group}/{value}"),
        ("dev_group", "tgt_group"),
        optional=False,
    ),
    Listing(
        "list_sess_attr",
        "INITIATOR",
        "attributes of a session",
        _attributes("targets/{driver}/{target}/sessions/{value}"),
        ("driver", "target"),
        optional=False,
    ),
)
