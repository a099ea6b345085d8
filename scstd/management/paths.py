# SPDX-License-Identifier: MIT
"""
Where things are when nobody says otherwise.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from scstd.attributes import ConfigurationError

LONGEST_PATH = 107
"""Bytes of a Unix socket's path (unix(7))."""


def default_directory() -> Path:
    """
    Return where state is kept unless ``--state-dir`` says otherwise: what the service
    manager names, /var/lib/scstd for root, else the user's state directory.

    :raises ConfigurationError: the user has no home.
    """
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/scstd")
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else _home() / ".local/state") / "scstd"


def temporary_directory() -> Path:
    """
    Return a path for state that is forgotten at the end: one that nobody can guess.
    """
    return Path(tempfile.gettempdir()) / f"scstd-{secrets.token_hex(8)}"


def _home() -> Path:
    given = os.environ.get("HOME")
    if given:
        return Path(given)
    user = os.geteuid()
    try:
        return Path(pwd.getpwuid(user).pw_dir)
    except KeyError:
        raise ConfigurationError(
            f"user {user} has no home directory (no HOME, no entry in passwd), so"
            " nowhere to keep state"
        ) from None


def default_socket(state: Path | None = None) -> Path:
    """
    Return where the control socket is unless somebody says otherwise: in the state
    directory.

    :raises ConfigurationError: the user has no home.
    """
    return (state or default_directory()) / "control"


@contextlib.contextmanager
def socket_path(path: Path) -> Iterator[str]:
    """
    Have a path that a Unix socket can be opened by: of one that is too long for that
    the directory goes by its descriptor, which is open for as long.

    :raises OSError: there is no such directory, or no way to name it.
    """
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        named = f"/proc/self/fd/{directory}"
        if not Path(named).exists() or len(f"{named}/{path.name}") > LONGEST_PATH:
            raise OSError(
                errno.ENAMETOOLONG, f"longer than {LONGEST_PATH} bytes", str(path)
            )
        yield f"{named}/{path.name}"
    finally:
        os.close(directory)
