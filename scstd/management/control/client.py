# SPDX-License-Identifier: MIT
"""
The other end of the control socket, for tools.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.protocol import ClientCreator
from twisted.protocols.amp import AMP

from scstd.management.control import commands
from scstd.management.control.commands import FailedError
from scstd.management.paths import socket_path


@attrs.define(eq=False)
class Client:
    """
    A connection to a running service.

    Every method raises `FailedError` if the service refuses.
    """

    amp: AMP

    async def _whole(self, command: Any, **arguments: Any) -> str:
        return await self._rest(await self.amp.callRemote(command, **arguments))

    async def _rest(self, answer: Mapping[str, Any]) -> str:
        """
        Return the whole of a text of which an answer has the first piece.
        """
        pieces = [answer["text"]]
        while answer["more"]:
            answer = await self.amp.callRemote(commands.More, more=answer["more"])
            pieces.append(answer["text"])
        return "".join(pieces)

    async def read(self, path: str) -> str:
        """
        Return what a file says.
        """
        return await self._whole(commands.Read, path=path)

    async def names(self, path: str) -> list[str]:
        """
        Return the names in a directory.
        """
        names: list[str] = json.loads(await self._whole(commands.List, path=path))
        return names

    async def dump(
        self, path: str, depth: int = 0, only: Sequence[str] = ()
    ) -> dict[str, Any]:
        """
        Return a directory and what is in it (`commands.Dump`).
        """
        text = await self._whole(
            commands.Dump, path=path, depth=depth, only=list(only) or None
        )
        found: dict[str, Any] = json.loads(text)
        return found

    async def write(self, path: str, text: str) -> list[str]:
        """
        Write to a file; return what is to be said of it.
        """
        return _said(await self.amp.callRemote(commands.Write, path=path, text=text))

    async def manage(
        self,
        path: str,
        verb: str,
        words: Sequence[str] = (),
        pairs: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        """
        Run a verb of a ``mgmt`` file; return what is to be said of it.
        """
        answer = await self.amp.callRemote(
            commands.Manage,
            path=path,
            verb=verb,
            words=list(words),
            pairs=[{"name": name, "value": value} for name, value in pairs],
        )
        return _said(answer)

    async def check(self, path: str) -> list[str]:
        """
        See what is wrong with a configuration file; return what would be left out.
        """
        return (await self._whole(commands.Check, path=path)).splitlines()

    async def apply(
        self,
        path: str,
        *,
        keep: bool = False,
        dry: bool = False,
        keep_going: bool = False,
    ) -> tuple[list[str], list[str]]:
        """
        Apply a configuration file; return the steps, and what is to be said.
        """
        answer = await self.amp.callRemote(
            commands.Apply, path=path, keep=keep, dry=dry, keep_going=keep_going
        )
        return (await self._rest(answer)).splitlines(), _said(answer)

    async def save(self, path: str) -> tuple[str, list[str]]:
        """
        Write what is configured to a file; return its name, and what is to be said.
        """
        answer = await self.amp.callRemote(commands.Save, path=path)
        return answer["path"], _said(answer)

    async def clear(self) -> list[str]:
        """
        Take everything away; return the steps.
        """
        return (await self._whole(commands.Clear)).splitlines()

    async def subscribe(self, names: Sequence[str] = ()) -> None:
        """
        Hear of events of these names or patterns from now on; with none, of all.
        """
        await self.amp.callRemote(commands.Subscribe, names=list(names))

    async def events(self) -> tuple[list[dict[str, Any]], int]:
        """
        Wait for events; return them, and how many were lost after them.
        """
        found = json.loads(await self._whole(commands.Events))
        return found["events"], found["lost"]

    def close(self) -> None:
        """
        Hang up.
        """
        transport: Any = self.amp.transport
        # The service may have hung up already.
        if transport is not None:
            transport.loseConnection()


def _said(answer: Mapping[str, Any]) -> list[str]:
    text: str = answer.get("warnings") or ""
    return text.splitlines()


async def connect(reactor: Any, path: Path) -> Client:
    """
    Return a connection to the service whose control socket is at *path*.

    :raises FailedError: there is none, or it is not for us.
    """
    try:
        # Not an endpoint: that module takes as long to import as all of this.
        with socket_path(path) as name:
            return Client(await ClientCreator(reactor, AMP).connectUNIX(name, 10))
    except Exception as error:
        number = getattr(error, "osError", getattr(error, "errno", None))
        why = str(error) if number is None else os.strerror(number)
        name = errno.errorcode.get(number or errno.ECONNREFUSED, "ECONNREFUSED")
        raise FailedError(
            f"{name} no service answers at {path}: {why} (is it running? -socket or"
            " SCSTD_CONTROL names another control socket)"
        ) from error
