# SPDX-License-Identifier: MIT
"""
The console: a Python prompt inside the running process, over SSH (a manhole); beside it
the tree as files, over SFTP (`scstd.management.console.sftp`).

Whoever has it has the whole process, so there are no passwords: only those whose public
key is in the file of ``--manhole-keys`` get in, under any user name.  The file is read
at each login.  The server's own key is made once and kept in the state directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from twisted.conch.checkers import IAuthorizedKeysDB, SSHPublicKeyChecker
from twisted.conch.insults.insults import ServerProtocol
from twisted.conch.manhole_ssh import ConchFactory, TerminalRealm
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.cred.portal import Portal
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from scstd.attributes import ConfigurationError
from scstd.crowd import neighbourhood, who_gives_way
from scstd.management.console.commands import Verbs
from scstd.management.console.sftp import subsystem
from scstd.management.console.tables import TaskWatch
from scstd.management.console.terminal import ConsoleSession, Terminal, user
from scstd.management.state.durable import DamagedError, Kept, locked, make_directory
from scstd.management.tree.tree import Tree
from scstd.textfile import read_regular

_log = Logger()

_LONGEST_KEYS = 1 << 20
"""Bytes of a file of keys."""

LOGIN_TIME = 60.0
"""Seconds in which a client has to log in."""

GRACE = 5.0
"""Seconds that a client has to take what it was told at the end."""

MAX_CONNECTIONS = 64
"""Connections at a time, logged in or not: targets need descriptors too."""


@implementer(IAuthorizedKeysDB)
class KeyFile:
    """
    The keys of a file, for every user name.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def getAuthorizedKeys(self, username: bytes) -> Iterable[Key]:  # noqa: ARG002, N802
        """Return the keys there are now."""
        try:
            lines = read_regular(self._path, most=_LONGEST_KEYS).splitlines()
        except OSError as error:
            _log.error("{path}: {error}", path=str(self._path), error=error.strerror)
            return []
        found: list[Key] = []
        for number, line in enumerate(map(bytes.strip, lines), 1):
            if not line or line.startswith(b"#"):
                continue
            try:
                found.append(Key.fromString(line))
            except Exception:  # noqa: BLE001 - whatever conch, or what it calls, thinks of it
                # The line may be anything, a secret too.
                _log.error(
                    "{path}: line {number}: expected a public key",
                    path=str(self._path),
                    number=number,
                )
        return found


def _host_key(directory: Path) -> Key:
    """
    Return the server's key, made when there is none.

    :raises ConfigurationError: the file of the key is damaged, and so is its backup; or
        it cannot be read or written.
    """
    path = directory / "console_host_key"
    try:
        make_directory(directory)
        kept = Kept(path, _key, "clients have to be told of a new key")
        with locked(path):
            found = kept.read()
            if found is None:
                made = Ed25519PrivateKey.generate().private_bytes(
                    Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
                )
                kept.write(made)
                found = _key(made)
    except (OSError, DamagedError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return found


def _key(data: bytes) -> Key:
    try:
        key: Key = Key.fromString(data)
    except Exception as error:  # whatever conch, or what it calls, thinks of it
        raise ValueError("it has no private key") from error
    if key.isPublic() or b"\0" in data:
        raise ValueError("it has no private key")
    return key


@implementer(IPushProducer)
class ConsoleTransport(SSHServerTransport):
    """
    One connection: it ends if nobody has logged in on it after `LOGIN_TIME`, or if
    nobody takes what is said at its end.

    It is the producer of what its transport sends: who does not read is not read from.
    """

    factory: ConsoleFactory
    host = ""
    _late: IDelayedCall | None = None
    _ending: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin."""
        self.factory.connections[self] = None
        self._late = self.factory.reactor.callLater(LOGIN_TIME, self._too_late)
        transport: Any = self.transport
        self.host = str(getattr(transport.getPeer(), "host", ""))
        transport.registerProducer(self, True)
        super().connectionMade()

    @property
    def logged_in(self) -> bool:
        """Whether somebody has."""
        return self._late is None

    def pauseProducing(self) -> None:
        """Read no more: what was sent is not read."""
        transport: Any = self.transport
        transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on: it was."""
        transport: Any = self.transport
        if transport.disconnecting:
            # Else the transport waits for more to send before it closes.
            transport.unregisterProducer()
        else:
            transport.resumeProducing()

    def stopProducing(self) -> None:
        """Nobody is there any more."""

    def sendDisconnect(self, reason: int, desc: bytes) -> None:  # noqa: N802 - as conch has it
        """Say that it is over, and close, whether that is read or not."""
        super().sendDisconnect(reason, desc)
        if self._ending is None:
            transport: Any = self.transport
            self._ending = self.factory.reactor.callLater(
                GRACE, transport.abortConnection
            )

    def _too_late(self) -> None:
        self._late = None
        _log.warn("the console: no login after {seconds} s", seconds=LOGIN_TIME)
        transport: Any = self.transport
        transport.abortConnection()

    def _in_time(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.cancel()

    def setService(self, service: Any) -> None:  # noqa: N802 - as conch has it
        """Go on to a service: the second comes after the login."""
        if isinstance(service, SSHConnection):
            self._in_time()
        super().setService(service)

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        """Be no more."""
        self._in_time()
        if self._ending is not None and self._ending.active():
            self._ending.cancel()
        self.factory.connections.pop(self, None)
        super().connectionLost(reason)


class ConsoleFactory(ConchFactory):
    """
    The console's SSH server; *watch* knows how old tasks are while it listens.
    """

    protocol = ConsoleTransport

    def __init__(self, portal: Portal, watch: TaskWatch) -> None:
        super().__init__(portal)
        self._watch = watch
        self.reactor: Any = watch.system.reactor
        self.connections: dict[ConsoleTransport, None] = {}

    def buildProtocol(self, addr: Any) -> Any:
        """Return a protocol, or None when there are too many that are logged in."""
        if len(self.connections) >= MAX_CONNECTIONS and not self._make_room():
            _log.warn(
                "the console: {most} connections are there: refused",
                most=MAX_CONNECTIONS,
            )
            return None
        return super().buildProtocol(addr)

    def _make_room(self) -> bool:
        """
        Have somebody go who has not logged in, if there is one (`scstd.crowd`).
        """
        found = who_gives_way(
            [one for one in self.connections if not one.logged_in],
            lambda one: neighbourhood(one.host),
            lambda one: not one.gotVersion,
        )
        if found is None:
            return False
        del self.connections[found]
        transport: Any = found.transport
        transport.abortConnection()
        return True

    def startFactory(self) -> None:
        """Begin to listen."""
        super().startFactory()
        self._watch.start()

    def stopFactory(self) -> None:
        """Listen no more."""
        self._watch.stop()
        super().stopFactory()


def console_factory(tree: Tree, keys: str, state: Path) -> Any:
    """
    Return the factory of the console's SSH server.

    :raises ConfigurationError: there is no file of keys, or see `_host_key`.
    """
    if not Path(keys).is_file():
        raise ConfigurationError(f"--manhole-keys {keys}: there is no such file")
    verbs = Verbs(tree)
    namespace = verbs.namespace()
    realm: Any = TerminalRealm()
    realm.chainedProtocolFactory = lambda: ServerProtocol(
        Terminal, namespace, verbs.paths
    )
    realm.sessionFactory = ConsoleSession
    realm.userFactory = partial(user, subsystem(tree))
    checker = SSHPublicKeyChecker(KeyFile(keys))
    factory: Any = ConsoleFactory(Portal(realm, [checker]), verbs.watch)
    host_key = _host_key(state)
    kind: Any = host_key.sshType()
    factory.publicKeys = {kind: host_key.public()}
    factory.privateKeys = {kind: host_key}
    return factory
