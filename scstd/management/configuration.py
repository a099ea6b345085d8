# SPDX-License-Identifier: MIT
"""
What is configured: devices, and target drivers with targets, groups and LUN maps.

scst.conf and the command line both become a `Configuration`, and so does what runs
(`System.configuration`); `scstd.management.plan` says what leads from one to another.
Values have been checked against the attribute tables of the plugins by then, so that
nothing is opened for a file with a mistake in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from scstd.attributes import (
    Attribute,
    Choice,
    ConfigurationError,
    Effect,
    Flag,
    Integer,
    Size,
    Text,
    parse_values,
)
from scstd.interfaces import IDeviceHandler, IFilter, ITargetDriver
from scstd.management.groups import DeviceGroupConfiguration
from scstd.management.logs import LogLevels
from scstd.management.portals import Portal
from scstd.management.trace import DEFAULT, TraceLevel
from scstd.plugin import find_device_handler, find_filter

MOST_LUN = 16383
"""The greatest LUN that flat space addressing names (SAM-5 section 4.7.7.3)."""

RESERVED = frozenset({".", "..", "mgmt", "type", "enabled"})
"""Names that paths in the tree use themselves."""


@attrs.frozen
class Hex:
    """
    An identifier in hex digits, of one of these lengths in bytes.
    """

    lengths: tuple[int, ...]

    def parse(self, text: str) -> str:
        """Return the digits."""
        digits = text.lower().removeprefix("0x").replace(":", "")
        if digits and (
            re.fullmatch(r"[0-9a-f]+", digits) is None
            or len(digits) not in {2 * length for length in self.lengths}
        ):
            raise ConfigurationError(f"expected {self.describe()}")
        return digits

    def render(self, value: str) -> str:
        """Return the digits."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return f"{' or '.join(map(str, self.lengths))} bytes in hex digits"


@attrs.frozen
class NAA(Hex):
    """
    An NAA designator: its first digit says which kind, and so how long it is (SPC-5,
    NAA designator format).
    """

    lengths: tuple[int, ...] = (8, 16)

    def parse(self, text: str) -> str:
        """Return the digits."""
        digits = super().parse(text)
        if digits and digits[0] not in ("235" if len(digits) == 16 else "6"):
            raise ConfigurationError(f"expected {self.describe()}")
        return digits

    def describe(self) -> str:
        """Say what is expected."""
        return (
            "8 bytes in hex digits that begin with 2, 3 or 5, or 16 that begin with 6"
        )


@attrs.frozen
class SCSIName:
    """
    A SCSI name string (SPC-5, SCSI name string designator format).
    """

    def parse(self, text: str) -> str:
        """Return the name."""
        if text and (
            re.fullmatch(r"(eui|naa)\.[0-9A-Fa-f]{16,32}|iqn\.\S+", text) is None
            or len(text.encode()) > 255
        ):
            raise ConfigurationError(f"expected {self.describe()}")
        return text

    def render(self, value: str) -> str:
        """Return *value*."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return "a name that begins with iqn., eui. or naa., of at most 255 bytes"


@attrs.frozen
class Ascii:
    """
    Printable ASCII of at most *longest* characters (SPC-5 section 4.3.1).
    """

    longest: int

    def parse(self, text: str) -> str:
        """Return *text*."""
        if len(text) > self.longest or not (text.isascii() and text.isprintable()):
            raise ConfigurationError(f"expected {self.describe()}")
        return text

    def render(self, value: str) -> str:
        """Return *value*."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return f"at most {self.longest} printable ASCII characters"


DEVICE_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute("read_only", Flag(), False, "Refuse writes."),
    Attribute(
        "removable",
        Flag(),
        False,
        "The medium can be ejected (RMB).",
        effect=Effect.LIVE,
    ),
    Attribute(
        "rotational", Flag(), True, "Report a rotating medium.", effect=Effect.LIVE
    ),
    Attribute(
        "thin_provisioned",
        Flag(),
        None,
        "Announce UNMAP; when not set, if the store can deallocate.",
    ),
    Attribute(
        "tp_soft_threshold",
        Integer(1, 100),
        None,
        "Percent of the file system in use at which initiators are warned (38/07).",
    ),
    Attribute(
        "lb_per_pb_exp",
        Flag(),
        True,
        "Report physical blocks of 4096 bytes.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "opt_trans_len",
        Size(512),
        524288,
        "Optimal transfer length in bytes.",
        effect=Effect.LIVE,
    ),
    Attribute("tst", Integer(0, 1), 1, "0: one task set for all; 1: one a nexus."),
    Attribute(
        "max_tgt_dev_commands",
        Integer(0, 65535),
        0,
        "Commands that one session may have at it at a time (TASK SET FULL); 0: all"
        " that QueuedCommands lets through.",
    ),
    Attribute(
        "expl_alua",
        Flag(),
        False,
        "Let initiators change access states (explicit ALUA).",
    ),
    Attribute(
        "pr_ignore_isid",
        Flag(),
        False,
        "Persistent registrations belong to an initiator's name, whatever its ISID.",
    ),
    Attribute("erase_commands", Flag(), True, "Have FORMAT UNIT and SANITIZE."),
    Attribute("long_cdbs", Flag(), False, "Have the block commands of 32 bytes."),
    Attribute(
        "t10_vend_id", Ascii(8), None, "T10 vendor identification.", effect=Effect.LIVE
    ),
    Attribute(
        "prod_id", Ascii(16), None, "Product identification.", effect=Effect.LIVE
    ),
    Attribute(
        "prod_rev_lvl", Ascii(4), None, "Product revision level.", effect=Effect.LIVE
    ),
    Attribute("usn", Ascii(20), None, "Unit serial number.", effect=Effect.LIVE),
    Attribute("naa_id", NAA(), None, "NAA designator.", effect=Effect.LIVE),
    Attribute(
        "eui64_id", Hex((8, 12, 16)), None, "EUI-64 designator.", effect=Effect.LIVE
    ),
    Attribute(
        "t10_dev_id",
        Ascii(25),
        None,
        "T10 vendor ID based designator.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "vend_specific_id",
        Ascii(128),
        None,
        "Vendor specific designator.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "state_key",
        Ascii(100),
        None,
        "The name under which its identity and saved pages are kept; else its own.",
    ),
    Attribute(
        "scsi_device_name",
        SCSIName(),
        None,
        "SCSI name of the target device; when not set, the target's name.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "inq_vend_specific",
        Ascii(160),
        None,
        "Vendor specific INQUIRY data: at byte 36, or 96 if longer than 20.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "management_url",
        Text(1024, "a URL"),
        None,
        "Where the device is managed, for initiators that ask (VPD page 85h).",
        effect=Effect.LIVE,
    ),
    Attribute(
        "filter",
        Text(what="a filter's name and its parameters"),
        None,
        "A filter before the store: NAME param=value ...; the last is the outermost.",
        repeats=True,
    ),
)
"""Attributes that a device has whatever its handler."""

ROOT_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "setup_id",
        Integer(0, 2**32 - 1),
        0,
        "A number of this installation; kept for SCST's files, names do not need it.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "trace_level",
        TraceLevel(),
        DEFAULT,
        "What the log says of single commands; add TOKEN and del TOKEN change it.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "log_levels",
        LogLevels(),
        (),
        "Which lines the log has, over what --log-level says.",
        effect=Effect.LIVE,
    ),
    Attribute(
        "measure_latency",
        Flag(),
        False,
        "Measure how long commands take: latency/ of each session.",
        effect=Effect.LIVE,
    ),
)
"""Attributes of the whole."""

DRIVER_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "portal",
        Portal(),
        None,
        "Where to listen; when there is none, where --listen says, or everywhere.",
        repeats=True,
        effect=Effect.LIVE,
    ),
)
"""Attributes that every target driver has beside its own."""

GROUP_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute(
        "addr_method",
        Choice(("PERIPHERAL", "FLAT")),
        None,
        "How REPORT LUNS names LUNs; when not set, as the target does.",
        effect=Effect.LIVE,
    ),
)
"""Attributes of a group of initiators."""

LUN_ATTRIBUTES: Sequence[Attribute[Any]] = (
    Attribute("read_only", Flag(), False, "Refuse writes through this LUN."),
)
"""Attributes of an entry of a LUN map."""


@attrs.frozen
class FilterConfiguration:
    """
    A filter and its parameters.
    """

    filter: IFilter
    values: Mapping[str, Any]


@attrs.frozen
class DeviceConfiguration:
    """
    A device: its handler, values for the handler's parameters and those of
    `DEVICE_ATTRIBUTES`, and the key under which its state is kept.
    """

    name: str
    handler: IDeviceHandler
    values: Mapping[str, Any]
    filters: tuple[FilterConfiguration, ...] = ()
    state_key: str = ""

    @property
    def origin(self) -> str:
        """What the device is made of: its handler, and its file if it has one."""
        return origin(self.handler.name, self.values.get("filename"))

    @property
    def other_key(self) -> str:
        """
        The key of its state in the other form of configuration, where it may have been
        before: scst.conf knows devices by their names, the command line by names and
        what they are made of.
        """
        other = full_key(self.name, self.origin)
        return self.name if self.state_key == other else other


@attrs.frozen
class LunConfiguration:
    """
    One entry of a LUN map.
    """

    lun: int
    device: str
    read_only: bool = False


@attrs.frozen
class GroupConfiguration:
    """
    A group of initiators and its LUN map.
    """

    name: str
    patterns: tuple[str, ...]
    luns: tuple[LunConfiguration, ...]
    addr_method: str = ""


@attrs.frozen
class TargetConfiguration:
    """
    A target: values for its driver's target attributes, LUNs, groups.
    """

    name: str
    values: Mapping[str, Any]
    luns: tuple[LunConfiguration, ...] = ()
    groups: tuple[GroupConfiguration, ...] = ()


@attrs.frozen
class DriverConfiguration:
    """
    A target driver: values for its attributes, and its targets.
    """

    name: str
    values: Mapping[str, Any]
    targets: tuple[TargetConfiguration, ...] = ()


_UNIQUE = ("usn", "naa_id", "eui64_id", "t10_dev_id")
"""Attributes by which hosts tell devices apart."""


def check_identities(
    devices: Iterable[DeviceConfiguration],
    seen: dict[tuple[str, str], str] | None = None,
) -> None:
    """
    See that no two devices are configured to be the same: hosts would take them for two
    paths to one disk, and data would be lost.  *seen* is what earlier calls have seen.

    :raises ConfigurationError: two are; the text names them and the attribute.
    """
    seen = {} if seen is None else seen
    for one in devices:
        for name in _UNIQUE:
            value = one.values.get(name)
            if not value:
                continue
            other = seen.setdefault((name, value), one.name)
            if other != one.name:
                raise ConfigurationError(
                    f"devices {other} and {one.name} have the same {name}, {value}:"
                    " hosts would take them for one disk"
                )


@attrs.frozen
class Configuration:
    """
    Everything, in the order in which it is written.

    :raises ConfigurationError: two devices are configured to be the same.
    """

    devices: tuple[DeviceConfiguration, ...] = ()
    drivers: tuple[DriverConfiguration, ...] = ()
    device_groups: tuple[DeviceGroupConfiguration, ...] = ()
    values: Mapping[str, Any] = attrs.field(
        factory=lambda: parse_values(ROOT_ATTRIBUTES, ())
    )

    def rel_tgt_ids(self) -> dict[str, int | None]:
        """
        Return each target's relative target port identifier, None where none is given.
        """
        return {
            target.name: target.values.get("rel_tgt_id")
            for driver in self.drivers
            for target in driver.targets
        }

    def __attrs_post_init__(self) -> None:
        check_identities(self.devices)


def origin(handler: str, filename: str | None) -> str:
    """
    Return what a device of *handler* is made of.
    """
    where = os.path.realpath(filename) if filename else ""
    return f"{handler} {where}"


def full_key(name: str, made_of: str) -> str:
    """
    Return the key of a device of the command line: the name alone is not enough, for
    another directory's "disk" is another disk.
    """
    return f"{name}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"


def device_rows(handler: IDeviceHandler) -> list[Attribute[Any]]:
    """
    Return all attributes of a handler's devices: its parameters first, then those of
    `DEVICE_ATTRIBUTES` that it does not define itself.
    """
    own = list(handler.parameters())
    names = {row.name for row in own}
    return own + [row for row in DEVICE_ATTRIBUTES if row.name not in names]


def driver_rows(driver: ITargetDriver) -> list[Attribute[Any]]:
    """
    Return all attributes of a target driver.
    """
    return [*driver.attributes(), *DRIVER_ATTRIBUTES]


def device(
    name: str,
    handler: str | IDeviceHandler,
    given: Iterable[tuple[str, str]],
    state_key: str | None = None,
) -> DeviceConfiguration:
    """
    Return a device's configuration.

    :raises ConfigurationError: no such handler, attribute or filter, or a wrong value.
    """
    check_name(name)
    found = find_device_handler(handler) if isinstance(handler, str) else handler
    values = parse_values(device_rows(found), given, "attribute")
    for row in device_rows(found):
        # An empty text is no name: it is as if nothing were said.
        if values[row.name] == "" and row.default is None:
            values[row.name] = None
    if state_key is not None:
        values["state_key"] = state_key
    chain = tuple(_filter(text) for text in values.get("filter", ()))
    return DeviceConfiguration(name, found, values, chain, values["state_key"] or name)


def check_name(name: str) -> None:
    """
    :raises ConfigurationError: this can be no device's name.
    """
    if (
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+:@-]{0,63}", name) is None
        or name in RESERVED
    ):
        raise ConfigurationError(
            f"{name!r} is no device name: expected at most 64 letters, digits and"
            f" _ . + : @ -, and none of {', '.join(sorted(RESERVED))}"
        )


def check_path_name(name: str) -> None:
    """
    :raises ConfigurationError: this can be no group's or pattern's name, for it can be
    no part of a path.
    """
    if (
        not 0 < len(name) <= 223
        or name in RESERVED
        or set(name) & set("/=;")
        or not name.isprintable()
        or " " in name
    ):
        raise ConfigurationError(
            f"{name!r} is no name: expected at most 223 printable characters, no blank"
            f" and none of / = ;, and none of {', '.join(sorted(RESERVED))}"
        )


def _filter(text: str) -> FilterConfiguration:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"filter {text!r}: {error}") from None
    if not words:
        raise ConfigurationError("filter: expected a filter's name")
    found = find_filter(words[0])
    given = [pair(word) for word in words[1:]]
    try:
        values = parse_values(found.parameters(), given)
    except ConfigurationError as error:
        raise ConfigurationError(f"filter {words[0]!r}: {error}") from None
    return FilterConfiguration(found, values)


def pair(word: str) -> tuple[str, str]:
    """
    Return name and value of ``name=value``; a name alone is a flag that is set.
    """
    name, equals, value = word.partition("=")
    return name, value if equals else "1"


def check_iqn(name: str) -> None:
    """
    :raises ConfigurationError: this is no iSCSI name (RFC 7143 section 4.2.7, RFC
    3722).
    """
    if (
        re.fullmatch(
            r"iqn\.\d{4}-\d{2}\.[a-z0-9][a-z0-9.-]*(:[^\s/A-Z]+)?"
            r"|eui\.[0-9A-Fa-f]{16}|naa\.[0-9A-Fa-f]{16}([0-9A-Fa-f]{16})?",
            name,
        )
        is None
        or len(name.encode()) > 223
    ):
        raise ConfigurationError(
            f"{name!r} is no iSCSI name: expected iqn.YYYY-MM.DOMAIN:WORD (small"
            " letters), eui.16-HEX-DIGITS or naa.16-OR-32-HEX-DIGITS"
        )
