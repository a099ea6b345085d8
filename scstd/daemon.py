# SPDX-License-Identifier: MIT
"""
``iscsi-scstd``: the daemon of the first iSCSI-SCST, another way to start the service.

Its options become those of ``twistd scst-iscsi``.  ``-c`` takes scst.conf or the old
``iscsi-scstd.conf``; with the latter, LUNs come from an old ``/etc/scst.conf``,
as they did, if there is one.
"""

from __future__ import annotations

import argparse
import grp
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

import scstd
from scstd.attributes import ConfigurationError
from scstd.installed import quietly
from scstd.management.cli.usage import Parser
from scstd.management.converters.legacy import convert, is_legacy
from scstd.management.paths import default_directory
from scstd.management.state.durable import make_directory, write_atomically
from scstd.textfile import read_text

CONFIGS = ("/etc/scst.conf", "/etc/iscsi-scstd.conf")
"""Files that are looked for when none is named."""

CONVERTED = "converted.conf"
"""What old files become, at each start."""

PID_FILE = "/run/iscsi-scstd.pid"


def parser() -> argparse.ArgumentParser:
    """
    Return the parser of the command line.
    """
    made = Parser(
        "iscsi-scstd",
        description="Serve iSCSI targets: the same as twistd scst-iscsi.",
        allow_abbrev=False,
    )
    made.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        action="append",
        help="scst.conf, or iscsi-scstd.conf and the old scst.conf (both: twice)",
    )
    made.add_argument(
        "-d", "--debug", type=int, metavar="LEVEL", help="more in the log, in front"
    )
    made.add_argument(
        "-f", "--foreground", action="store_true", help="do not become a daemon"
    )
    made.add_argument("-u", "--uid", metavar="UID", help="user to be, when it listens")
    made.add_argument("-g", "--gid", metavar="GID", help="group to be")
    made.add_argument(
        "-a", "--address", default="", metavar="ADDRESSES", help="where to listen"
    )
    made.add_argument("-p", "--port", type=int, metavar="PORT", help="else 3260")
    made.add_argument("-s", "--state-dir", metavar="DIRECTORY")
    made.add_argument(
        "-k",
        "--keep-going",
        action="store_true",
        help="serve what can be opened; other LUNs are not ready",
    )
    made.add_argument("--pidfile", default=PID_FILE, metavar="FILE")
    made.add_argument("-v", "--version", action="version", version=scstd.__version__)
    return made


def arguments(words: Sequence[str]) -> list[str]:
    """
    Return the arguments of twistd that an ``iscsi-scstd`` command line stands for.

    :raises ConfigurationError: there is no configuration file, or mistakes are in it.
    """
    options = parser().parse_args(words)
    made = ["--pidfile", options.pidfile if not options.foreground else ""]
    if options.foreground or options.debug is not None:
        made.append("--nodaemon")
    for name, known in (("uid", pwd.getpwnam), ("gid", grp.getgrnam)):
        wanted = getattr(options, name)
        if wanted is None:
            continue
        if not (wanted.isascii() and wanted.isdigit()):
            try:
                known(wanted)
            except KeyError:
                raise ConfigurationError(f"--{name} {wanted!r}: unknown") from None
        made += [f"--{name}", wanted]
    state = _state(options.state_dir)
    made += ["scst-iscsi", "--config", _config(options.config, state)]
    if options.debug:
        made += ["--log-level", "debug"]
    if options.state_dir is not None:
        made += ["--state-dir", options.state_dir]
    if options.keep_going:
        made.append("--keep-going")
    port = 3260 if options.port is None else options.port
    addresses = options.address.split() or ([] if options.port is None else ["*"])
    for address in addresses:
        where = f"[{address}]" if ":" in address.strip("[]") else address
        made += ["--listen", f"{where.replace('[[', '[').replace(']]', ']')}:{port}"]
    return made


def _state(named: str | None) -> Path:
    try:
        return Path(named) if named else default_directory()
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}: say --state-dir DIRECTORY") from None


def _config(named: Sequence[str] | None, state: Path) -> str:
    """
    Return the scst.conf to be served: old files are converted into `CONVERTED`, which
    is as secret as they are, in the directory of the state.
    """
    files = list(named or [one for one in CONFIGS if Path(one).exists()][:1])
    if not files:
        raise ConfigurationError(f"there is no {' or '.join(CONFIGS)}: name one (-c)")
    try:
        texts = [read_text(file) for file in files]
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from error
    if len(files) == 1 and not is_legacy(texts[0]):
        return files[0]
    old = Path(CONFIGS[0])
    if not named and old.exists() and str(old) not in files:
        files.append(str(old))
    text, warnings = convert(files)
    for warning in warnings:
        print(warning, file=sys.stderr)  # noqa: T201 - the log is not open yet
    path = state / CONVERTED
    try:
        make_directory(state)
        write_atomically(path, text.encode())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    return str(path)


def entry() -> None:
    """
    The console script.
    """
    try:
        words = arguments(sys.argv[1:])
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not open yet
        sys.exit(1)
    from twisted.scripts.twistd import run  # noqa: PLC0415 - after --help and --version

    sys.argv = ["twistd", *words]
    with quietly():
        run()
