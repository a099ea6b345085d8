# SPDX-License-Identifier: MIT
"""
``scstadmin``: SCST's administration tool, on the control socket.

Commands and options are SCST's.  A command that changes something is a row of
`scstd.management.cli.scstadmin_commands`: which path of the tree, which verb of its
``mgmt`` file, or which file.  The lists are in `scstd.management.cli.lists`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import scstd
from scstd.attributes import ConfigurationError
from scstd.management.cli.events import follow
from scstd.management.cli.lists import LISTS
from scstd.management.cli.scstadmin_commands import ACTIONS, OPTIONS, Action
from scstd.management.cli.tools import (
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
from scstd.management.control.client import Client

CONFIG = "/etc/scst.conf"
"""The file that is meant when none is named and the service has none."""


class Parser(argparse.ArgumentParser):
    """
    Says in one line what is wrong: there are too many commands to name them all.
    """

    def error(self, message: str) -> NoReturn:
        """Say it, and exit with `USAGE`."""
        _what, unknown, words = message.partition("unrecognized arguments: ")
        if unknown:
            known = list(self._option_string_actions)
            close = difflib.get_close_matches(words.partition(" ")[0], known, n=1)
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
        kind: dict[str, Any] = {"metavar": listing.word}
        if not listing.word:
            kind = {"action": "store_const", "const": ""}
        elif listing.optional:
            kind.update(nargs="?", const="")
        one.add_argument(f"-{listing.option}", help=listing.help, **kind)
    more = made.add_argument_group("options")
    for name, text in OPTIONS.items():
        more.add_argument(f"-{name}", metavar=name.upper(), help=text)
    more.add_argument("-attributes", metavar="A=V,...", type=pairs, default=[])
    more.add_argument("-force", action="store_true", help="do it all the same")
    more.add_argument("-noprompt", action="store_true", help="do not ask")
    more.add_argument("-nonkey", action="store_true", help=argparse.SUPPRESS)
    more.add_argument(
        "-cont_on_err",
        action="store_true",
        help="-config: have devices missing that cannot be opened, and go on",
    )
    for name in ("debug", "no_lip"):
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
    from scstd.management.config.reading import read_and_check  # noqa: PLC0415 - heavy

    try:
        configuration, warnings = read_and_check(path, pipes=True)
    except ConfigurationError as error:
        say(str(error))
        return REFUSED
    _tell(warnings)
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
    from scstd.management.converters.legacy import convert  # noqa: PLC0415 - heavy

    try:
        text, warnings = convert(paths)
    except ConfigurationError as error:
        say(str(error))
        return REFUSED
    _tell(warnings)
    show(text.removesuffix("\n"))
    return DONE


async def _act(action: Action, given: Mapping[str, Any], client: Client) -> int:
    values = {name: given[name] or "" for name in OPTIONS}
    values["value"] = str(given[action.option])
    group = f"ini_groups/{given['group']}/luns" if given["group"] else "luns"
    values["luns"] = f"targets/{given['driver']}/{given['target']}/{group}"
    path = action.path.format_map(values)
    words = [word.format_map(values) for word in action.words]
    attributes: list[tuple[str, str]] = given["attributes"]
    if action.verb:
        if action.option == "close_dev" and given["force"]:
            attributes = [("force", "1")]
        _tell(await client.manage(path, action.verb, words, attributes))
    elif action.text:
        _tell(await client.write(path, action.text))
    for name, value in attributes if not action.verb else ():
        if action.each:
            _tell(await client.manage(path, action.each, [*words, name, value]))
        else:
            _tell(await client.write(f"{path}/{name}" if path else name, value))
    return DONE


def _tell(warnings: Iterable[str]) -> None:
    for warning in warnings:
        say(f"warning: {warning}")


async def _configure(options: Any, client: Client) -> int:
    steps: list[str]
    if options.clear_config:
        steps = await client.clear()
    elif options.config is not None:
        path = _absolute(options.config)
        steps, warnings = await client.apply(
            path,
            keep=not options.force,
            dry=options.dry,
            keep_going=options.cont_on_err,
        )
        _tell(warnings)
    else:
        path = _absolute(options.write_config)
        where, warnings = await client.save(path)
        _tell(warnings)
        show(f"Written to {where}.")
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
