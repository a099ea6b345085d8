# SPDX-License-Identifier: MIT
"""
What command-line tools on the control socket share: running, failing, tables.

Exit statuses that scripts can trust: 0, it was done; 1, it was refused (why is on
standard error); 2, the command line makes no sense; 3, no service answers; 130, Ctrl-C;
141, nobody reads the output any more, as a shell has it for SIGPIPE.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from scstd.attributes import ConfigurationError
from scstd.management.control.client import Client, connect
from scstd.management.control.commands import FailedError
from scstd.management.paths import default_socket
from scstd.printable import printable, printable_lines

DONE, REFUSED, USAGE, NO_SERVICE, INTERRUPTED, UNREAD = 0, 1, 2, 3, 130, 141

Body = Callable[[Client], Coroutine[Any, Any, int]]
"""What a tool does with a connection: it returns the exit status."""


def socket_path(given: str | None) -> Path:
    """
    Return the control socket: what is given, what SCSTD_CONTROL says, or the default.

    :raises FailedError: there is no default.
    """
    chosen = given or os.environ.get("SCSTD_CONTROL")
    try:
        return Path(chosen) if chosen else default_socket()
    except ConfigurationError as error:
        raise FailedError(
            f"ENOENT {error}: -socket or SCSTD_CONTROL names the control socket"
        ) from None


def run(path: str | None, body: Body) -> int:
    """
    Run *body* with a connection to the service; return the exit status.
    """
    status = DONE
    interrupted = False
    output: OSError | None = None

    def stops() -> None:
        nonlocal interrupted
        interrupted = True

    async def main(reactor: Any) -> None:
        nonlocal status, output
        trigger = reactor.addSystemEventTrigger("before", "shutdown", stops)
        try:
            client = await connect(reactor, socket_path(path))
        except FailedError as error:
            say(error.text)
            status = NO_SERVICE
            return
        try:
            status = await _told(body(client))
        except OSError as error:
            output = error
        except Exception as error:  # noqa: BLE001 - the connection was lost
            if interrupted:
                status = INTERRUPTED
                return
            say(f"the service hung up: {error}")
            status = NO_SERVICE
        reactor.removeSystemEventTrigger(trigger)
        client.close()

    try:
        react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
    except SystemExit as ended:
        if ended.code:
            return REFUSED
    if output is not None:
        raise output
    return status


async def _told(done: Coroutine[Any, Any, int]) -> int:
    """
    Return a tool's exit status; why the service refuses is said.
    """
    try:
        return await done
    except FailedError as error:
        say(error.text)
        return REFUSED


def finish(main: Callable[[], int]) -> NoReturn:
    """
    Exit with the status that *main* returns, or with one for output that cannot be
    written.
    """
    try:
        status = main()
        sys.stdout.flush()
    except OSError as error:
        status = UNREAD
        if not isinstance(error, BrokenPipeError):
            say(f"standard output: {error.strerror}")
            status = REFUSED
        # Python would try again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def say(text: str) -> None:
    """
    Tell the user what is wrong.
    """
    print(printable_lines(text), file=sys.stderr)  # noqa: T201 - this is what tools do


def show(text: str) -> None:
    """
    Print what was asked for.
    """
    print(text)  # noqa: T201 - this is what tools do


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """
    Return a table for people.
    """
    cells = [list(head), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in cells
    )


FLAGS = (
    "read_only",
    "write_through",
    "nv_cache",
    "o_direct",
    "removable",
    "thin_provisioned",
    "dummy",
)
"""Attributes that stand for themselves in SCST's command lines."""

_BETWEEN = rf",(?=[A-Za-z_][A-Za-z0-9_]*=|(?:{'|'.join(FLAGS)})(?:,|$))"


def pairs(text: str) -> list[tuple[str, str]]:
    """
    Return names and values of ``a=1,b=2``; a comma before no name is part of a value.
    Flags may stand without a value, as in SCST.

    :raises ValueError: there is a value without a name.
    """
    found = []
    for one in re.split(_BETWEEN, text) if text else []:
        name, equals, value = one.partition("=")
        if not equals and name not in FLAGS:
            raise ValueError(f"{one!r}: expected ATTRIBUTE=VALUE,...")
        found.append((name.strip(), value if equals else "1"))
    return found
