# SPDX-License-Identifier: MIT
"""
``scstadmin``: SCST's administration tool, on the control socket.

Commands and options are SCST's.  A command that changes something is a row of
`ACTIONS`: which path of the tree, which verb of its ``mgmt`` file, or which file.  The
lists are in `scstd.management.listing`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import attrs

import scstd
from scstd.attributes import ConfigurationError
from scstd.management.client import Client
from scstd.management.following import follow
from scstd.management.legacy import convert
from scstd.management.listing import LISTS
from scstd.management.reading import read_file_and_warn
from scstd.management.tools import (
    DONE,
    REFUSED,
    USAGE,
    Body,
    finish,
    pairs,
    run,
    say,
    show,
)

CONFIG = "/etc/scst.conf"
"""The file that is meant when none is named and the service has none."""


@attrs.frozen
class Action:
    """
    A command: *path* and *words* have the options' names in braces, ``{luns}`` is the
    LUN directory of the target or of its group.

    With a *verb* the directory's ``mgmt`` file is written, with *text* the file at
    *path*; with neither each of ``-attributes`` is written to its file in the
    directory, or, with *each*, is said to that verb.  A *confirm*ed one is asked about.
    """

    option: str
    word: str
    help: str
    path: str
    verb: str = ""
    words: tuple[str, ...] = ()
    text: str = ""
    each: str = ""
    attributes: bool = False
    confirm: bool = False

    @property
    def needs(self) -> list[str]:
        """The options that it needs besides its own."""
        said = " ".join((self.path, *self.words))
        found = [name for name in _OPTIONS if f"{{{name}}}" in said]
        if "{luns}" in said:
            found = [*dict.fromkeys(("driver", "target", *found))]
        return found


_OPTIONS = {
    "driver": "the target driver",
    "target": "the target",
    "group": "the group of initiators; without it the LUNs are the target's own",
    "handler": "the device handler",
    "device": "the device",
    "dev_group": "the device group",
    "to": "the group that takes it",
    "tgt_group": "the target group",
}
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


class Parser(argparse.ArgumentParser):
    """
    Says in one line what is wrong: there are too many commands to name them all.
    """

    def error(self, message: str) -> NoReturn:
        """Say it, and exit with `USAGE`."""
        _what, unknown, words = message.partition("unrecognized arguments: ")
        if unknown:
            known = list(self._option_string_actions)
            close = difflib.get_close_matches(words.split()[0], known, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            message = f"unknown: {words}{hint}"
        self.exit(USAGE, f"{self.prog}: {message}\n{self.prog} -h has all commands.\n")


def parser() -> argparse.ArgumentParser:
    """
    Return the parser of the command line.
    """
    made = Parser(
        "scstadmin",
        usage="scstadmin COMMAND [options]",
        description="Administer a running scstd. One command at a time.",
        epilog="Exit status: 0 done, 1 refused, 2 wrong usage, 3 no service answers,"
        " 130 interrupted, 141 nobody reads the output.",
        allow_abbrev=False,
    )
    made.add_argument("-version", action="version", version=scstd.__version__)
    group = made.add_argument_group("commands")
    one = group.add_mutually_exclusive_group()
    for option, text in (
        ("config", "apply a file; -force: take away what is not in it"),
        ("check_config", "say everything that is wrong with a file"),
        ("write_config", "write what is configured to a file"),
    ):
        one.add_argument(f"-{option}", nargs="?", const="", metavar="FILE", help=text)
    one.add_argument(
        "-convert_config",
        nargs="+",
        metavar="FILE",
        help="print today's scst.conf for old files (iscsi-scstd.conf, scst.conf)",
    )
    one.add_argument(
        "-events",
        nargs="*",
        metavar="NAME",
        help="say what happens, as it does: all events, or those of these names (*, ?)",
    )
    one.add_argument("-clear_config", action="store_true", help="take everything away")
    for action in ACTIONS:
        if action.word:
            one.add_argument(f"-{action.option}", metavar=action.word, help=action.help)
        else:
            one.add_argument(f"-{action.option}", action="store_true", help=action.help)
    for listing in LISTS:
        optional: Any = {"nargs": "?", "const": ""} if listing.optional else {}
        one.add_argument(
            f"-{listing.option}", metavar=listing.word, help=listing.help, **optional
        )
    more = made.add_argument_group("options")
    for name, text in _OPTIONS.items():
        more.add_argument(f"-{name}", metavar=name.upper(), help=text)
    more.add_argument("-attributes", metavar="A=V,...", type=pairs, default=[])
    more.add_argument("-force", action="store_true", help="do it all the same")
    more.add_argument("-noprompt", action="store_true", help="do not ask")
    more.add_argument("-nonkey", action="store_true", help=argparse.SUPPRESS)
    for name in ("cont_on_err", "debug", "no_lip"):
        more.add_argument(f"-{name}", action="store_true", help=argparse.SUPPRESS)
    more.add_argument("-dry", action="store_true", help="-config: only say the steps")
    more.add_argument("-json", action="store_true", help="lists for programs")
    more.add_argument("-count", type=int, help="-events: end after so many")
    more.add_argument("-socket", metavar="PATH", help="the control socket")
    return made


def prepare(arguments: Sequence[str] | None = None) -> int | Body:
    """
    Return what the command line asks for, to be done with a connection; or the exit
    status, if it is done already.
    """
    made = parser()
    options = made.parse_args(arguments)
    given: Mapping[str, Any] = vars(options)
    if options.check_config is not None:
        return check(options.check_config or CONFIG)
    if options.convert_config:
        return convert_files(options.convert_config)
    for action in ACTIONS:
        if given[action.option] not in {None, False}:
            _need(made, options, action.option, action.needs)
            if action.attributes and not action.verb and not options.attributes:
                made.error(f"-{action.option} needs -attributes")
            if not sure(options, asked=action.confirm):
                return REFUSED
            return partial(_act, action, given)
    asked = _question(made, options)
    if asked is not None:
        return asked
    if (options.config, options.write_config) == (None, None) and (
        not options.clear_config
    ):
        made.error("a command is missing")
    wild = options.clear_config or (options.force and options.config is not None)
    if not sure(options, asked=wild):
        return REFUSED
    return partial(_configure, options)


def _question(made: argparse.ArgumentParser, options: Any) -> Body | None:
    """
    Return what a command line that changes nothing asks for; None if it is no such one.
    """
    if options.events is not None:
        return partial(follow, options.events, options.count, as_json=options.json)
    given: Mapping[str, Any] = vars(options)
    for listing in LISTS:
        if given[listing.option] is not None:
            _need(made, options, listing.option, listing.needs)
            return partial(listing.show, given)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line; return its exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    done = prepare(words)
    if isinstance(done, int):
        return done
    return run(parser().parse_args(words).socket, done)


def _need(
    made: argparse.ArgumentParser, options: Any, option: str, names: Sequence[str]
) -> None:
    for name in names:
        if getattr(options, name) is None:
            made.error(f"-{option} needs -{name}")


def sure(options: Any, *, asked: bool) -> bool:
    """
    Ask whether to go on, unless that is not to be asked.
    """
    if not asked or options.noprompt:
        return True
    if not sys.stdin.isatty():
        say("This takes something away: say -noprompt to do it without being asked.")
        return False
    return input("This takes something away. Go on (y/n)? ").lower().startswith("y")


def check(path: str) -> int:
    """
    Say what is wrong with a file; return the exit status.
    """
    try:
        configuration, warnings = read_file_and_warn(path)
    except ConfigurationError as error:
        say(str(error))
        return REFUSED
    for warning in warnings:
        say(f"warning: {warning}")
    for driver in configuration.drivers:
        for target in driver.targets:
            maps = {"": target.luns}
            maps.update((f" in group {one.name}", one.luns) for one in target.groups)
            for where, luns in maps.items():
                if luns and 0 not in {one.lun for one in luns}:
                    say(f"{path}: warning: {target.name}: there is no LUN 0{where}")
    show(f"{path}: nothing is wrong with it")
    return DONE


def convert_files(paths: Sequence[str]) -> int:
    """
    Print today's scst.conf for old files; return the exit status.
    """
    try:
        text, warnings = convert(paths)
    except ConfigurationError as error:
        say(str(error))
        return REFUSED
    for warning in warnings:
        say(f"warning: {warning}")
    show(text.removesuffix("\n"))
    return DONE


async def _act(action: Action, given: Mapping[str, Any], client: Client) -> int:
    values = {name: given[name] or "" for name in _OPTIONS}
    values["value"] = str(given[action.option])
    group = f"ini_groups/{given['group']}/luns" if given["group"] else "luns"
    values["luns"] = f"targets/{given['driver']}/{given['target']}/{group}"
    path = action.path.format_map(values)
    words = [word.format_map(values) for word in action.words]
    attributes: list[tuple[str, str]] = given["attributes"]
    if action.verb:
        if action.option == "close_dev" and given["force"]:
            attributes = [("force", "1")]
        await client.manage(path, action.verb, words, attributes)
    elif action.text:
        await client.write(path, action.text)
    for name, value in attributes if not action.verb else ():
        if action.each:
            await client.manage(path, action.each, [*words, name, value])
        else:
            await client.write(f"{path}/{name}" if path else name, value)
    return DONE


async def _configure(options: Any, client: Client) -> int:
    steps: list[str]
    if options.clear_config:
        steps = await client.clear()
    elif options.config is not None:
        path = _absolute(options.config)
        steps = await client.apply(path, keep=not options.force, dry=options.dry)
    else:
        path = _absolute(options.write_config)
        show(f"Written to {await client.save(path)}.")
        return DONE
    if options.json:
        show(json.dumps(steps))
        return DONE
    for step in steps:
        show(step)
    show(f"{len(steps)} {'change' if len(steps) == 1 else 'changes'}.")
    return DONE


def _absolute(path: str) -> str:
    """
    Return a path as the service has to know it; nothing stays nothing.
    """
    return str(Path(path).absolute()) if path else ""


def entry() -> None:
    """
    The console script.
    """
    finish(main)
