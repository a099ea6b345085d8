# SPDX-License-Identifier: MIT
"""
``iscsi-scst-adm``: the iSCSI target's own tool, as the first iSCSI-SCST had it.

It knows targets by a number, ``tid``: here the target's ``rel_tgt_id``.  Sessions'
``sid`` is their place in the list of the target's sessions, from 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import scstd
from scstd.management.cli.lists import plain
from scstd.management.cli.tools import DONE, Body, finish, pairs, run, show
from scstd.management.cli.usage import Parser
from scstd.management.control.client import Client
from scstd.management.control.commands import FailedError

_DRIVER = "targets/iscsi"

_LIVE = {"initiator_name", "ip", "target_ip", "cid", "state", "sid"}
"""What is shown of a session when no ``--sid`` asks for all of it."""


def parser() -> argparse.ArgumentParser:
    """
    Return the parser of the command line.
    """
    made = Parser(
        "iscsi-scst-adm",
        description="Administer the iSCSI targets of a running scstd. Changes last"
        " until it stops: scstadmin -write_config keeps them.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--op", choices=("new", "delete", "show", "update"), required=True
    )
    made.add_argument(
        "--tid", type=int, metavar="ID", help="a target's number; of a new one 0: any"
    )
    made.add_argument("--sid", type=int, metavar="ID", help="a session's number")
    made.add_argument("--cid", type=int, metavar="ID", help="a connection's number")
    made.add_argument(
        "-u", "--user", action="store_true", help="it is about users (CHAP)"
    )
    made.add_argument(
        "-p",
        "--params",
        type=pairs,
        default=[],
        metavar="K=V,...",
        help="Name=IQN of a new target; attributes; IncomingUser=NAME,Password=SECRET",
    )
    made.add_argument("--socket", metavar="PATH", help="the control socket")
    made.add_argument("-V", "--version", action="version", version=scstd.__version__)
    return made


def prepare(arguments: Sequence[str]) -> Body:
    """
    Return what the command line asks for, to be done with a connection.
    """
    made = parser()
    options = made.parse_args(arguments)
    given = dict(options.params)
    if options.op == "new" and not options.user and not given.get("Name"):
        made.error("--op new needs --params Name=IQN")
    if options.op == "update" and (
        not options.params or (options.tid is None and not options.user)
    ):
        made.error("--op update needs --tid and --params")
    if options.user and options.op != "show" and not _user(options)[0]:
        made.error("--user needs --params IncomingUser=NAME or OutgoingUser=NAME")
    return partial(_do, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line; return its exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run(parser().parse_args(words).socket, prepare(words))


async def _do(options: Any, client: Client) -> int:
    if options.user:
        return await _users(client, options)
    call = {"new": _new, "delete": _delete, "show": _show, "update": _update}
    return await call[options.op](client, options)


async def _target(client: Client, tid: int) -> str:
    """
    Return a target's name.

    :raises FailedError: there is no such number.
    """
    found = (await client.dump(_DRIVER, 1)).items()
    for name, what in found:
        if isinstance(what, dict) and what.get("rel_tgt_id", "").split("\n")[0] == str(
            tid
        ):
            return name
    raise FailedError(f"ENOENT there is no target {tid}")


async def _new(client: Client, options: Any) -> int:
    name = dict(options.params)["Name"]
    rest = [pair for pair in options.params if pair[0] != "Name"]
    if options.tid:
        rest.append(("rel_tgt_id", str(options.tid)))
    await client.manage(_DRIVER, "add_target", [name], [*rest, ("enabled", "1")])
    return DONE


async def _delete(client: Client, options: Any) -> int:
    if options.tid is None:
        # All of them, as the first one did; the service itself goes on.
        for name, what in (await client.dump(_DRIVER, 0)).items():
            if isinstance(what, dict):
                await client.manage(_DRIVER, "del_target", [name])
        return DONE
    target = await _target(client, options.tid)
    if options.sid is None:
        await client.manage(_DRIVER, "del_target", [target])
        return DONE
    session = await _session(client, target, options.sid)
    await client.write(f"{_DRIVER}/{target}/sessions/{session}/force_close", "1")
    return DONE


async def _session(client: Client, target: str, sid: int) -> str:
    names = await client.names(f"{_DRIVER}/{target}/sessions")
    if not 1 <= sid <= len(names):
        raise FailedError(f"ENOENT there is no session {sid} of {target}")
    return names[sid - 1]


async def _show(client: Client, options: Any) -> int:
    if options.tid is None:
        for name, what in (await client.dump(_DRIVER, 4)).items():
            if isinstance(what, dict):
                show(f"tid:{plain(what['rel_tgt_id'])[0]} name:{name}")
                for sid, (_name, session) in enumerate(what["sessions"].items(), 1):
                    shown = [f"{key}:{session[key]}" for key in session if key in _LIVE]
                    show(f"\tsid:{sid} " + " ".join(shown))
        return DONE
    path = f"{_DRIVER}/{await _target(client, options.tid)}"
    if options.sid is not None:
        target = path.removeprefix(f"{_DRIVER}/")
        path += f"/sessions/{await _session(client, target, options.sid)}"
    for name, value in (await client.dump(path, 0)).items():
        if value is not None and not isinstance(value, dict):
            show(f"{name}={plain(value)[0]}")
    return DONE


async def _update(client: Client, options: Any) -> int:
    path = f"{_DRIVER}/{await _target(client, options.tid)}"
    for name, value in options.params:
        await client.write(f"{path}/{name}", value)
    return DONE


def _user(options: Any) -> tuple[str, str]:
    """
    Return which kind of user is meant, and its name.
    """
    for name, value in options.params:
        if name in {"IncomingUser", "OutgoingUser"}:
            return name, value
    return "", ""


async def _users(client: Client, options: Any) -> int:
    target = "" if options.tid is None else await _target(client, options.tid)
    path = f"{_DRIVER}/{target}".rstrip("/")
    there = {
        file: str(value).split()[0]
        for file, value in (await client.dump(path, 0)).items()
        if file.startswith(("IncomingUser", "OutgoingUser")) and value
    }
    if options.op == "show":
        for file, name in there.items():
            show(f"{file.rstrip('0123456789')}={name}")
        return DONE
    kind, name = _user(options)
    account = f"{name} {dict(options.params).get('Password', '')}"
    if options.op == "new":
        if kind == "OutgoingUser":
            await client.write(f"{path}/{kind}", account)
        elif target:
            words = [target, kind, account]
            await client.manage(_DRIVER, "add_target_attribute", words)
        else:
            await client.manage(_DRIVER, "add_attribute", [kind, account])
        return DONE
    files = [file for file in there if file.startswith(kind) and there[file] == name]
    if not files:
        raise FailedError(f"ENOENT there is no {kind} {name!r}")
    said = account if options.op == "update" else ""
    await client.write(f"{path}/{files[0]}", said)
    return DONE


def entry() -> None:
    """
    The console script.
    """
    finish(main)
