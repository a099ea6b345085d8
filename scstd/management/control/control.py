# SPDX-License-Identifier: MIT
"""
The control socket: the tree, for programs on the same machine (doc/control.md).

A Unix socket that its owner and root may use, and nobody else: by its mode, and by the
user that the kernel says is at the other end.  On it is AMP, Twisted's protocol of
commands with named arguments.  The commands are those of the tree, and those of
`scstd.management.config.applying`; nothing is decided here.

AMP carries at most 65535 bytes in a value.  What may be longer comes in pieces: an
answer has a *text* and a number *more*, with which `More` fetches the next piece.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read_and_check
from scstd.management.control.amp_server import Boxes
from scstd.management.control.commands import (
    PIECE,
    Apply,
    Check,
    Clear,
    Dump,
    Events,
    FailedError,
    List,
    Manage,
    More,
    Read,
    Save,
    Subscribe,
    Write,
)
from scstd.management.model.warnings import hearing
from scstd.management.monitor.events import Subscription
from scstd.management.paths import socket_path
from scstd.management.tree.tree import Tree
from scstd.results import settled

_log = Logger()

_MAX_PENDING = 8
"""Answers of which one client may leave pieces waiting."""

MAX_TOLD = 64
"""Events in one answer."""

MAX_CLIENTS = 256
"""Clients at a time: each has a descriptor, which targets need too."""

_CREDENTIALS = struct.Struct("3i")


class ControlProtocol(Boxes):
    """
    One client.
    """

    def __init__(
        self,
        tree: Tree,
        configurator: Configurator,
        clients: dict[ControlProtocol, None],
    ) -> None:
        super().__init__()
        self._clients = clients
        self._tree = tree
        self._configurator = configurator
        self._pieces: dict[int, str] = {}
        self._last = 0
        self._subscription: Subscription | None = None
        self._waiting: Deferred[dict[str, Any]] | None = None

    def connectionMade(self) -> None:
        """Let the owner and root in."""
        super().connectionMade()
        self._clients[self] = None
        transport: Any = self.transport
        user = peer_user(transport.getHandle())
        if user not in {0, os.geteuid()}:
            _log.warn("control socket: user {user} refused", user=user)
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget what it wanted to hear of."""
        self._clients.pop(self, None)
        if self._subscription is not None:
            self._subscription.end()
        self._waiting = None
        super().connectionLost(reason)

    def _answer(self, text: str) -> dict[str, Any]:
        more = 0
        if len(text) > PIECE:
            self._last = more = self._last + 1
            self._pieces[more] = text[PIECE:]
            while len(self._pieces) > _MAX_PENDING:
                del self._pieces[min(self._pieces)]
        return {"text": text[:PIECE], "more": more}

    @More.responder
    def more(self, more: int) -> dict[str, Any]:
        """Return the next piece."""
        if more not in self._pieces:
            raise FailedError(f"ENOENT there is no answer {more} with more of it")
        return self._answer(self._pieces.pop(more))

    @Read.responder
    def read(self, path: str) -> Deferred[dict[str, Any]]:
        """Read a file."""

        async def found() -> dict[str, Any]:
            return self._answer(await settled(self._tree.read(path)))

        return _later(found())

    @List.responder
    def list(self, path: str) -> Deferred[dict[str, Any]]:
        """List a directory."""

        async def found() -> dict[str, Any]:
            return self._answer(json.dumps(await settled(self._tree.list(path))))

        return _later(found())

    @Dump.responder
    def dump(
        self, path: str, depth: int, only: Sequence[str] | None = None
    ) -> Deferred[dict[str, Any]]:
        """Dump a directory."""

        async def found() -> dict[str, Any]:
            dumped = self._tree.dump(path, min(depth, 16), only or ())
            return self._answer(json.dumps(await settled(dumped)))

        return _later(found())

    @Write.responder
    def write(self, path: str, text: str) -> Deferred[dict[str, Any]]:
        """Write to a file."""
        return self._changed(lambda: self._tree.write(path, text))

    @Manage.responder
    def manage(
        self, path: str, verb: str, words: Sequence[str], pairs: Sequence[Any]
    ) -> Deferred[dict[str, Any]]:
        """Run a verb."""
        given = [(pair["name"], pair["value"]) for pair in pairs]
        return self._changed(lambda: self._tree.manage(path, verb, words, given))

    @staticmethod
    def _changed(call: Callable[[], Deferred[Any]]) -> Deferred[dict[str, Any]]:
        with hearing() as said:
            done = call()

        async def over() -> dict[str, Any]:
            await done
            return _warnings(said)

        return _later(over())

    @Check.responder
    def check(self, path: str) -> Deferred[dict[str, Any]]:
        """Check a file."""
        return _later(self._check(path))

    async def _check(self, path: str) -> dict[str, Any]:
        # In a thread: it asks file systems that may not answer.
        lane = Lane(self._tree.system.reactor, "check")
        try:
            where = self._configurator.named(path)
            _configuration, warnings = await lane.call(read_and_check, where)
        finally:
            await lane.close()
        return self._answer("\n".join(warnings))

    @Apply.responder
    def apply(
        self, path: str, keep: bool, dry: bool, keep_going: bool = False
    ) -> Deferred[dict[str, Any]]:
        """Apply a file."""
        return _later(self._apply(path, keep, dry, keep_going or False))

    async def _apply(
        self, path: str, keep: bool, dry: bool, keep_going: bool
    ) -> dict[str, Any]:
        with hearing() as said:
            if dry:
                await self._tree.fresh()
                steps = self._configurator.preview(path, keep=keep)
            else:
                steps = await self._configurator.reload(
                    path, keep=keep, keep_going=keep_going
                )
        return {**self._answer("\n".join(map(str, steps))), **_warnings(said)}

    @Save.responder
    def save(self, path: str) -> Deferred[dict[str, Any]]:
        """Write a file."""
        return _later(self._save(path))

    async def _save(self, path: str) -> dict[str, Any]:
        with hearing() as said:
            where = await self._configurator.write(path)
        return {"path": where, **_warnings(said)}

    @Clear.responder
    def clear(self) -> Deferred[dict[str, Any]]:
        """Take everything away."""
        return _later(self._clear())

    async def _clear(self) -> dict[str, Any]:
        steps = await self._configurator.clear()
        return self._answer("\n".join(map(str, steps)))

    @Subscribe.responder
    def subscribe(self, names: Sequence[str]) -> dict[str, Any]:
        """Subscribe to events."""
        made = _told(lambda: self._tree.system.events.subscribe(names))
        if self._subscription is not None:
            self._subscription.end()
        self._subscription = made
        if self._waiting is not None:
            made.when_ready(self._tell)
        return {}

    @Events.responder
    def events(self) -> Deferred[dict[str, Any]]:
        """Wait for events."""
        if self._subscription is None:
            raise FailedError("EINVAL subscribe first")
        if self._waiting is not None:
            raise FailedError("EBUSY events are waited for already")
        waiting: Deferred[dict[str, Any]] = Deferred()
        self._waiting = waiting
        self._subscription.when_ready(self._tell)
        return waiting

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        assert self._subscription is not None
        events, lost = self._subscription.take(MAX_TOLD)
        found = {"events": [one.as_dict() for one in events], "lost": lost}
        waiting.callback(self._answer(json.dumps(found)))


def _told(call: Callable[[], Any]) -> Any:
    """
    Return what *call* returns; what it raises for people is sent to the client.
    """
    try:
        return call()
    except (ConfigurationError, OSError) as error:
        raise FailedError.of(error) from error


def _warnings(said: Sequence[str]) -> dict[str, Any]:
    return {"warnings": "\n".join(said)[:PIECE]} if said else {}


def _later(call: Coroutine[Any, Any, dict[str, Any]]) -> Deferred[dict[str, Any]]:
    async def told() -> dict[str, Any]:
        try:
            return await call
        except (ConfigurationError, OSError) as error:
            raise FailedError.of(error) from error

    return Deferred.fromCoroutine(told())


def peer_user(sock: socket.socket) -> int:
    """
    Return the user at the other end of a Unix socket, as the kernel knows it.
    """
    given = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, user, _group = _CREDENTIALS.unpack(given)
    return int(user)


class ControlFactory(Factory):
    """
    Makes a `ControlProtocol` for each client; ``held`` is closed at the end.
    """

    noisy = False

    def __init__(self, tree: Tree, configurator: Configurator) -> None:
        self._made = lambda: ControlProtocol(tree, configurator, self.clients)
        self.clients: dict[ControlProtocol, None] = {}
        self.held = contextlib.ExitStack()

    def buildProtocol(self, addr: Any) -> ControlProtocol | None:  # noqa: ARG002
        """Return a protocol, or None when there are too many that say something."""
        if len(self.clients) >= MAX_CLIENTS and not self._make_room():
            _log.warn(
                "control socket: {most} clients are there: refused", most=MAX_CLIENTS
            )
            return None
        return self._made()

    def _make_room(self) -> bool:
        """
        Have the oldest client go that has asked for nothing, if there is one.
        """
        for one in self.clients:
            if not one.begun:
                del self.clients[one]
                transport: Any = one.transport
                transport.abortConnection()
                return True
        return False

    def stopFactory(self) -> None:
        """Let go of what the path needed; the socket is removed by now."""
        self.held.close()


class _ControlPort(unix.Port):
    """
    A socket whose file is removed by a thread: its file system may not answer.
    """

    path: Path | None = None

    def connectionLost(self, reason: Failure) -> Any:
        """Close the socket; `stopListening` waits for what this returns."""
        tcp.Port.connectionLost(self, reason)
        if self.path is None:
            return None
        lane = Lane(self.reactor, "control socket")
        gone: Deferred[Any] = lane.call(_remove, self.path)
        return gone.addErrback(lambda _: None).addCallback(lambda _: lane.close())


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


def listen(
    reactor: Any, path: Path, tree: Tree, configurator: Configurator
) -> IListeningPort:
    """
    Open the control socket; one that a dead process left is replaced.

    :raises ConfigurationError: it cannot be opened, or another process has it.
    """
    factory = ControlFactory(tree, configurator)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.ExitStack() as held:
            name = held.enter_context(socket_path(path))
            before = os.umask(0o177)
            try:
                port = _ControlPort(
                    os.fsencode(name), factory, 50, 0o600, reactor, True
                )
                port.startListening()
            finally:
                os.umask(before)
            factory.held = held.pop_all()
            port.path = path
    except CannotListenError as error:
        # Without an error of the socket it is the lock beside it that is taken.
        why = getattr(error.socketError, "strerror", None) or "another process has it"
        raise ConfigurationError(f"{path}: {why}") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    return port
