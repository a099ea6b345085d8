# SPDX-License-Identifier: MIT
"""
``twistd scst-iscsi``: the options, and the service they ask for.
"""

from __future__ import annotations

import difflib
import getopt
import os
import pwd
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

import scstd
from scstd import plugin
from scstd.attributes import Attribute, ConfigurationError, parse_values
from scstd.interfaces import IDeviceHandler, IFilter, ITargetDriver
from scstd.management.config.reading import read_file, see_serves
from scstd.management.model.attribute_tables import WORKERS
from scstd.management.model.configuration import (
    Configuration,
    DeviceConfiguration,
    DriverConfiguration,
    LunConfiguration,
    TargetConfiguration,
    device,
    full_key,
    with_state_key,
)
from scstd.management.model.device_attributes import FILENAME, READ_ONLY
from scstd.management.model.filters import pair
from scstd.management.model.names import check_path_name
from scstd.management.model.portals import endpoints, everywhere
from scstd.management.model.target_attributes import target_rows
from scstd.management.model.value_kinds import LogLevels
from scstd.management.monitor.logs import FORMATS, Levels, as_errors, twistd_observer
from scstd.management.paths import default_directory, temporary_directory
from scstd.management.state.state import StateDirectory
from scstd.process.last_resort import LAST
from scstd.process.open_files import more_files
from scstd.process.service_manager import Notifier
from scstd.service import Settings
from scstd.twistd import make_process


class Options(usage.Options):
    """
    What a person can ask for on the command line.
    """

    synopsis = "[options] [FILE ...]"
    longdesc = """Serve disks over iSCSI. A FILE (or block device) becomes a LUN, as
does each --device; or everything is in a configuration file, in the grammar of
SCST's scst.conf. For example:

  twistd -n scst-iscsi disk.img
  twistd -n scst-iscsi --device d0=memory:size=64M --run 'iscsi-inq $SCSTD_URL'
  twistd -n scst-iscsi --config /etc/scst.conf

The options of twistd itself (-n, --pidfile, --logfile) come before scst-iscsi."""

    optParameters = [  # noqa: RUF012 - as twistd has it
        ["config", "c", None, "Configuration file (scst.conf)."],
        ["target", "t", None, "Name of the target for --device and FILE."],
        ["driver", None, None, "Target driver of that target; iscsi if none is said."],
        ["run", "r", None, "Serve, run this command, stop, exit with its status."],
        ["manhole", None, None, "Endpoint of the SSH console: ADDRESS:PORT."],
        ["manhole-keys", None, None, "File of those who may use it (authorized_keys)."],
        ["control", None, None, "Path of the control socket; none for ''."],
        [
            "state-dir",
            None,
            None,
            "Directory of what devices remember over restarts; '' for a temporary one,"
            " as with --run alone.",
        ],
        [
            "workers",
            None,
            None,
            "Processes that have devices and sessions; 0: this one alone. Default: what"
            " the configuration says (workers), else 0.",
        ],
        ["log-format", None, "text", "How the log is written: text or json."],
        ["log-level", None, "info", "Which lines it has: [NAMESPACE=]LEVEL,..."],
    ]

    optFlags = [  # noqa: RUF012 - as twistd has it
        [
            "keep-going",
            "k",
            "Serve what can be opened; other LUNs are not ready until it is there.",
        ],
    ]

    compData = usage.Completions(
        optActions={
            "config": usage.CompleteFiles(),
            "manhole-keys": usage.CompleteFiles(),
            "state-dir": usage.CompleteDirs(),
        },
        extraActions=[usage.CompleteFiles(repeat=True)],
    )

    parent: Any = None
    """twistd's own options, of which these are a part."""

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["devices"] = []
        self["files"] = []
        # Twisted folds a docstring with the blanks in front of its lines.
        self.docs = {
            name: " ".join((doc or "").split()) for name, doc in self.docs.items()
        }

    def parseOptions(self, options: Any = None) -> None:  # noqa: N802 - Twisted's name
        """
        Take options also behind the files that are to be served.

        :raises UsageError: they make no sense; for twistd, which would print all of its
            options first, it is SystemExit with the one line that matters.
        """
        words = list(sys.argv[1:] if options is None else options)
        try:
            if words[-2:-1] != ["--_shell-completion"]:
                words = self._files_last(words)
            super().parseOptions(words)
        except usage.UsageError as error:
            if self.parent is None:
                raise
            raise SystemExit(as_errors(str(error), sys.stderr)) from None

    def _files_last(self, words: list[str]) -> list[str]:
        try:
            found, files = getopt.gnu_getopt(words, self.shortOpt, self.longOpt)
        except getopt.error as error:
            raise usage.UsageError(self._meant(error)) from None
        takes = {f"--{name[:-1]}" for name in self.longOpt if name.endswith("=")}
        takes |= {f"-{letter}" for letter in re.findall(r"(\w):", self.shortOpt)}
        options = [
            word
            for name, value in found
            for word in ((name, value) if name in takes else (name,))
        ]
        return [*options, "--", *files]

    def _meant(self, error: getopt.GetoptError) -> str:
        """
        Return what is wrong with an option, and which one may have been meant.
        """
        dashes = "-" if len(error.opt) == 1 else "--"
        option = f"{dashes}{error.opt}"
        if "not recognized" not in error.msg:
            return f"{error.msg}; --help says more"
        parent = self.parent or {}
        of_twistd = [*getattr(parent, "longOpt", ()), *getattr(parent, "shortOpt", "")]
        if error.opt in {one.rstrip("=") for one in of_twistd}:
            return f"{option} is an option of twistd itself: it comes before scst-iscsi"
        names = [one.rstrip("=") for one in self.longOpt]
        for close in difflib.get_close_matches(error.opt, names, 1):
            return f"there is no option {option}: did you mean --{close}?"
        return f"there is no option {option}; --help lists them"

    def getUsage(self, width: int | None = None) -> str:  # noqa: N802 - Twisted's name
        """Return the options, and the examples as they are written."""
        whole = self.longdesc
        self.longdesc = ""
        try:
            return f"{super().getUsage(width)}\n{whole}\n"
        finally:
            self.longdesc = whole

    def opt_listen(self, where: str) -> None:
        """
        Listen here: ADDRESS:PORT ([ADDRESS]:PORT for IPv6; port 0 takes a free one) or
        a Twisted server endpoint, perhaps behind DRIVER=. Repeatable. Default: the
        port of the target driver (iscsi: 3260), on every address with --config, else
        on 127.0.0.1.
        """
        self["listen"].append(where)

    opt_l = opt_listen

    def opt_device(self, what: str) -> None:
        """
        Serve a device: NAME=HANDLER[:param=value...]. Repeatable: LUN 0, 1, ... in
        this order. A colon in a value is written with a backslash before it.
        """
        self["devices"].append(what)

    opt_d = opt_device

    def opt_version(self) -> None:
        """
        Print the version and exit.
        """
        print(f"scstd {scstd.__version__}")  # noqa: T201
        sys.exit(0)

    def opt_list_handlers(self) -> None:
        """
        List the device handlers with their parameters and exit.
        """
        _print_plugins(
            plugin.device_handlers(), IDeviceHandler, lambda one: one.parameters()
        )

    def opt_list_filters(self) -> None:
        """
        List the filters with their parameters and exit.
        """
        _print_plugins(plugin.filters(), IFilter, lambda one: one.parameters())

    def opt_list_drivers(self) -> None:
        """
        List the target drivers with the attributes of their targets and exit.
        """
        _print_plugins(plugin.target_drivers(), ITargetDriver, target_rows)

    def parseArgs(self, *files: str) -> None:
        """Take the files to be served."""
        self["files"] = list(files)

    def postOptions(self) -> None:
        """Check what the parser cannot, and make the configuration."""
        try:
            check_user(self.parent or {})
            self["settings"] = settings_of(self)
        except ConfigurationError as error:
            if self.parent is not None:
                Notifier.of(os.environ).status(str(error))
            raise usage.UsageError(str(error)) from error


def _print_plugins(
    found: Iterable[Any], interface: Any, rows: Callable[[Any], Iterable[Any]]
) -> None:
    lines: list[str] = []
    for one in found:
        lines.append(f"{one.name}: {one.summary}")
        for row in rows(one):
            default = (
                "required"
                if row.required
                else "not set"
                if row.default is None
                else f"default {row.kind.render(row.default) or repr('')}"
            )
            lines.append(f"    {row.name}  {row.help} ({default})")
    lines += map(str, plugin.broken(interface))
    print("\n".join(lines))  # noqa: T201
    sys.exit(0)


def split_device(text: str) -> tuple[str, str, list[tuple[str, str]]]:
    """
    Return name, handler and parameters of ``NAME=HANDLER[:param=value...]``.

    :raises ConfigurationError: it is not of this form.
    """
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise ConfigurationError(
            f"--device {text!r}: expected NAME=HANDLER[:param=value...]"
        )
    fields = re.findall(r"(?:[^\\:]|\\.)+", rest, re.DOTALL)
    plain = [re.sub(r"\\(.)", r"\1", field, flags=re.DOTALL) for field in fields]
    return name, plain[0], [pair(field) for field in plain[1:]]


def command_line_devices(
    devices: Iterable[str], files: Iterable[str]
) -> list[DeviceConfiguration]:
    """
    Return the devices of ``--device`` options and of bare files.

    :raises ConfigurationError: one of them is wrong.
    """
    asked: list[tuple[str, str, list[tuple[str, str]]]] = []
    for text in devices:
        name, handler, given = split_device(text)
        asked.append((name, handler, given))
    for file in files:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(file).stem)[:60] or "disk"
        given = [(FILENAME.name, file)]
        if Path(file).exists() and not os.access(file, os.W_OK):
            given.append((READ_ONLY.name, "1"))
        asked.append((name.lstrip(".-") or "disk", "vdisk_fileio", given))
    made: dict[str, DeviceConfiguration] = {}
    for name, handler, given in asked:
        if name in made:
            raise ConfigurationError(f"two devices are named {name!r}")
        try:
            found = device(name, handler, given)
            made[name] = with_state_key(found, full_key(name, found.origin))
        except ConfigurationError as error:
            raise ConfigurationError(f"device {name!r}: {error}") from None
    return list(made.values())


def chosen_driver(options: Options) -> ITargetDriver:
    """
    Return the target driver that the command line means.

    :raises ConfigurationError: there is none.
    """
    if options["driver"]:
        return plugin.find_target_driver(options["driver"])
    return plugin.default_target_driver()


def split_listen(text: str, driver: str) -> tuple[str, str]:
    """
    Return the target driver's name and the endpoint string of ``[DRIVER=]WHERE``; it is
    *driver* where none is named.

    :raises ConfigurationError: there is no such driver, or it is no endpoint.
    """
    match = re.match(r"([A-Za-z0-9_-]+)=", text)
    if match is None:
        return driver, endpoints(text)
    return plugin.find_target_driver(match[1]).name, endpoints(text[match.end() :])


def default_portals(addressed: Callable[[int], str]) -> dict[str, list[str]]:
    """
    Return where each target driver listens when nothing is said: at the endpoint that
    *addressed* returns for its port, if it has one.
    """
    return {
        one.name: [addressed(one.port)]
        for one in plugin.target_drivers()
        if one.port is not None
    }


def command_line_configuration(
    options: Options, driver: ITargetDriver
) -> Configuration:
    """
    Return a configuration of one target with the devices of the command line.

    :raises ConfigurationError: there are none, or something is wrong with them.
    """
    devices = command_line_devices(options["devices"], options["files"])
    if not devices:
        raise ConfigurationError(
            "nothing to serve: give a FILE, a --device or a --config"
        )
    name, _remark = plugin.target_name(
        driver, options["target"] or plugin.default_target_name(driver)
    )
    check_path_name(name)
    target = TargetConfiguration(
        name,
        _enabled(target_rows(driver)),
        tuple(LunConfiguration(lun, one.name) for lun, one in enumerate(devices)),
    )
    return Configuration(
        tuple(devices),
        (DriverConfiguration(driver.name, _enabled(driver.attributes()), (target,)),),
    )


def _enabled(rows: Sequence[Attribute[Any]]) -> dict[str, Any]:
    """
    Return the default values of rows, but enabled, if that can be said.
    """
    said = [(row.name, "1") for row in rows if row.name == "enabled"]
    return parse_values(rows, said)


def settings_of(options: Options) -> Settings:
    """
    Return what is to be served, and how.

    :raises ConfigurationError: the options make no sense.
    """
    driver = chosen_driver(options)
    if options["config"] is not None:
        if any(options[one] for one in ("devices", "files", "target", "driver")):
            raise ConfigurationError(
                "--config says everything: no --device, --target, --driver or FILE"
                " beside it"
            )
        configuration = read_file(options["config"], pipes=True)
        see_serves(configuration, options["config"])
        default = default_portals(everywhere)
    else:
        configuration = command_line_configuration(options, driver)
        default = default_portals(lambda port: f"tcp:{port}:interface=127.0.0.1")
    if (options["manhole"] is None) != (options["manhole-keys"] is None):
        raise ConfigurationError(
            "--manhole and --manhole-keys belong together: there is no password"
        )
    if options["log-format"] not in FORMATS:
        raise ConfigurationError(
            f"--log-format {options['log-format']!r}: expected {' or '.join(FORMATS)}"
        )
    try:
        levels = Levels(LogLevels().parse(options["log-level"]))
    except ConfigurationError as error:
        raise ConfigurationError(f"--log-level {error}") from None
    workers = configuration.values[WORKERS.name]
    if options["workers"] is not None:
        try:
            workers = WORKERS.kind.parse(options["workers"])
        except ConfigurationError as error:
            raise ConfigurationError(f"--workers {error}") from None
    listen: dict[str, list[str]] = {}
    for text in options["listen"]:
        name, where = split_listen(text, driver.name)
        listen.setdefault(name, []).append(where)
    state, temporary = state_directory(options)
    return Settings(
        configuration=configuration,
        listen=listen,
        default=default,
        config=options["config"] and str(Path(options["config"]).absolute()),
        control=options["control"],
        state=StateDirectory(state),
        temporary=temporary,
        run=options["run"],
        levels=levels,
        log_format=options["log-format"],
        manhole=endpoints(options["manhole"]) if options["manhole"] else None,
        manhole_keys=options["manhole-keys"],
        keep_going=bool(options["keep-going"]),
        workers=workers,
    )


def state_directory(options: Options) -> tuple[Path, bool]:
    """
    Return the state directory, and whether it is a temporary one.

    :raises ConfigurationError: it cannot be told where it is.
    """
    given = options["state-dir"]
    if given:
        return Path(given), False
    if given == "" or options["run"] is not None:
        return temporary_directory(), True
    try:
        return default_directory(), False
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}: say --state-dir DIRECTORY, or --state-dir '' to keep nothing"
        ) from None


def check_user(parent: Mapping[str, Any]) -> None:
    """
    See that twistd can become the user that its options name.

    :raises ConfigurationError: it would fail with a traceback.
    """
    user = parent.get("uid")
    if user is None:
        return
    try:
        pwd.getpwuid(user)
    except KeyError:
        raise ConfigurationError(
            f"--uid {user}: there is no such user in passwd, of whom twistd wants to"
            " know the groups; start it as that user instead"
        ) from None


def makeService(options: Options) -> IService:
    """
    Return the service.
    """
    more_files()
    settings = options["settings"]
    parent = getattr(options, "parent", None) or {}
    if parent.get("pidfile"):
        LAST.files.append(str(Path(parent["pidfile"]).absolute()))
    # With --run standard output is the command's.
    output = sys.stdout if settings.run is None else sys.stderr
    return make_process(
        settings,
        observer=twistd_observer(parent, settings.log_format, settings.levels, output),
    )
