# SPDX-License-Identifier: MIT
"""
The console: a Python prompt inside the running process, over SSH (a manhole); beside it
the tree as files, over SFTP (`scstd.management.sftp`).

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
from twisted.conch.checkers import (
    IAuthorizedKeysDB,
    SSHPublicKeyChecker,
    readAuthorizedKeyFile,
)
from twisted.conch.insults.insults import ServerProtocol
from twisted.conch.manhole_ssh import ConchFactory, TerminalRealm
from twisted.conch.ssh.keys import Key
from twisted.cred.portal import Portal
from twisted.logger import Logger
from zope.interface import implementer

from scstd.attributes import ConfigurationError
from scstd.management.durable import DamagedError, Kept, locked
from scstd.management.sftp import subsystem
from scstd.management.shown import TaskWatch
from scstd.management.terminal import Session, Terminal, user
from scstd.management.tree import Tree
from scstd.management.verbs import Verbs

_log = Logger()


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
            with self._path.open("rb") as file:
                return list(readAuthorizedKeyFile(file))
        except OSError as error:
            _log.error("{path}: {error}", path=str(self._path), error=error)
            return []


def _host_key(directory: Path) -> Key:
    """
    Return the server's key, made when there is none.

    :raises ConfigurationError: the file of the key is damaged, and so is its backup; or
        it cannot be read or written.
    """
    path = directory / "console_host_key"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
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


class ConsoleFactory(ConchFactory):
    """
    The console's SSH server; *watch* knows how old tasks are while it listens.
    """

    def __init__(self, portal: Portal, watch: TaskWatch) -> None:
        super().__init__(portal)
        self._watch = watch

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
    realm.sessionFactory = Session
    realm.userFactory = partial(user, subsystem(tree))
    checker = SSHPublicKeyChecker(KeyFile(keys))
    factory: Any = ConsoleFactory(Portal(realm, [checker]), verbs.watch)
    host_key = _host_key(state)
    kind: Any = host_key.sshType()
    factory.publicKeys = {kind: host_key.public()}
    factory.privateKeys = {kind: host_key}
    return factory
