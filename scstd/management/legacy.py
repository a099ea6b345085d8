# SPDX-License-Identifier: MIT
"""
Configuration files of the first iSCSI-SCST, made into today's scst.conf.

``iscsi-scstd.conf`` has the iSCSI side: what stands before the first ``Target`` is the
driver's, the rest is that target's.  Its ``Lun`` lines were ignored already then, for
LUNs are the SCSI core's: they are in scst.conf, which in its old form (before sysfs)
has ``[HANDLER ...]``, ``[GROUP ...]`` and ``[ASSIGNMENT ...]`` sections.  The group
``Default`` had the LUNs of every target, ``Default_<target>`` those of one; every other
group is a group of initiators, at every target.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping

import attrs

from scstd.attributes import ConfigurationError, unknown
from scstd.management.rows import device_rows
from scstd.management.scstconf import Mistakes, Word, quoted
from scstd.plugin import find_device_handler, find_target_driver
from scstd.textfile import read_text

_OPTIONS: Mapping[str, tuple[str, str]] = {
    "WT": ("write_through", "1"),
    "WRITE_THROUGH": ("write_through", "1"),
    "RO": ("read_only", "1"),
    "READ_ONLY": ("read_only", "1"),
    "RM": ("removable", "1"),
    "REMOVABLE": ("removable", "1"),
    "NV": ("nv_cache", "1"),
    "NV_CACHE": ("nv_cache", "1"),
    "DR": ("o_direct", "1"),
    "O_DIRECT": ("o_direct", "1"),
}
"""Options of a DEVICE of the handler vdisk, and today's attributes."""

_HANDLERS: Mapping[str, str] = {
    "BIO": "vdisk_blockio",
    "BLOCKIO": "vdisk_blockio",
    "NIO": "vdisk_nullio",
    "NULLIO": "vdisk_nullio",
}
"""Options that choose another handler than vdisk_fileio."""


@attrs.define
class Target:
    """
    A target: its attributes, its LUNs, its groups.
    """

    attributes: list[tuple[str, str]] = attrs.field(factory=list)
    luns: dict[int, tuple[str, bool]] = attrs.field(factory=dict)


@attrs.define
class Group:
    """
    A group of initiators of the old scst.conf.
    """

    names: list[str] = attrs.field(factory=list)
    luns: dict[int, tuple[str, bool]] = attrs.field(factory=dict)


@attrs.define
class Converter:
    """
    Collects what the files say; `warnings` has what was left out.
    """

    handlers: dict[str, dict[str, list[tuple[str, str]]]] = attrs.field(factory=dict)
    driver: list[tuple[str, str]] = attrs.field(factory=list)
    targets: dict[str, Target] = attrs.field(factory=dict)
    groups: dict[str, Group] = attrs.field(factory=dict)
    warnings: list[str] = attrs.field(factory=list)
    mistakes: list[ConfigurationError] = attrs.field(factory=list)

    # iscsi-scstd.conf.

    def iscsi(self, text: str, file: str) -> None:
        """
        Read an ``iscsi-scstd.conf``.
        """
        driver = find_target_driver("iscsi")
        of_driver = {row.name.lower(): row.name for row in driver.attributes()}
        of_target = {row.name.lower(): row.name for row in driver.target_attributes()}
        control: tuple[str, str] | None = None
        target: Target | None = None
        for word, value in _lines(text, file):
            key = word.text.lower()
            if key == "target":
                target = self.targets.setdefault(value, Target())
            elif key == "lun":
                self._warn(word, "LUNs are in scst.conf (LUN, in a TARGET): left out")
            elif key == "isnsaccesscontrol" and target is None:
                control = ("iSNSAccessControl", value)
            elif target is None and key in of_driver:
                self.driver.append((of_driver[key], value))
            elif target is not None and key in of_target:
                name = of_target[key]
                # A list of digests is written without blanks today.
                said = value.replace(" ", "") if name.endswith("Digest") else value
                target.attributes.append((name, said))
            elif key in of_target or key in of_driver or key in _FIXED:
                self._warn(word, "it is fixed, or means nothing here: left out")
            else:
                known = of_target if target is not None else of_driver
                self.mistakes.append(
                    word.wrong(unknown("word", word.text, known.values()))
                )
        if control is not None and control[1].lower() == "yes":
            self.driver = [
                (name, f"{value} AccessControl" if name == "iSNSServer" else value)
                for name, value in self.driver
            ]

    # The scst.conf of before sysfs.

    def core(self, text: str, file: str) -> None:
        """
        Read a ``scst.conf`` with sections in brackets.
        """
        section, name = "", ""
        for word, value in _lines(text, file, sections=True):
            if word.text.startswith("["):
                section, _blank, name = word.text.strip("[]").partition(" ")
                name = name.strip()
                if section == "GROUP":
                    self.groups.setdefault(name, Group())
                elif section not in {"HANDLER", "ASSIGNMENT", "TARGETS"}:
                    self.mistakes.append(word.wrong("expected HANDLER, GROUP, ..."))
                continue
            fields = [field.strip() for field in value.split(",")]
            if section == "HANDLER" and word.text == "DEVICE":
                self._device(word, name, fields)
            elif section == "GROUP" and word.text == "USER":
                self.groups[name].names.append(value)
            elif section == "ASSIGNMENT" and word.text == "DEVICE":
                self._assign(word, name, fields)
            elif section == "TARGETS" and word.text in {"ENABLE", "DISABLE", "HOST"}:
                self._warn(word, "targets are enabled in scst.conf: left out")
            else:
                self.mistakes.append(word.wrong(f"not expected in [{section} {name}]"))

    def _device(self, word: Word, handler: str, fields: list[str]) -> None:
        name, path, options, block_size = [*fields, "", "", "", ""][:4]
        chosen = {"vdisk": "vdisk_fileio", "vdisk_blk": "vdisk_blockio"}.get(
            handler, handler
        )
        given: list[tuple[str, str]] = []
        for option in options.replace("|", " ").split():
            if option in _HANDLERS:
                chosen = _HANDLERS[option]
            elif option in _OPTIONS:
                given.append(_OPTIONS[option])
            else:
                self._warn(word, f"option {option} is unknown: left out")
        if path and chosen != "vdisk_nullio":
            given.insert(0, ("filename", path))
        if block_size:
            given.append(("blocksize", block_size))
        try:
            known = {row.name for row in device_rows(find_device_handler(chosen))}
        except ConfigurationError as error:
            self.mistakes.append(word.wrong(str(error)))
            return
        for attribute, _value in given:
            if attribute not in known:
                self._warn(word, f"{chosen} has no {attribute}: left out")
        self.handlers.setdefault(chosen, {})[name] = [
            pair for pair in given if pair[0] in known
        ]

    def _assign(self, word: Word, group: str, fields: list[str]) -> None:
        device, number, option = [*fields, "", ""][:3]
        if re.fullmatch("[0-9]{1,5}", number) is None:
            self.mistakes.append(word.wrong("expected DEVICE NAME,LUN"))
            return
        there = self.groups.setdefault(group, Group())
        there.luns[int(number)] = device, option in {"RO", "READ_ONLY"}

    def _warn(self, word: Word, why: str) -> None:
        self.warnings.append(str(word.wrong(why)))

    # What comes out.

    def text(self) -> str:
        """
        Return today's scst.conf.

        :raises Mistakes: there were some.
        """
        if self.mistakes:
            raise Mistakes(self.mistakes)
        for name in self.groups:
            if name.startswith("Default_"):
                self.targets.setdefault(name.removeprefix("Default_"), Target())
        lines: list[str] = []
        for handler, devices in self.handlers.items():
            lines.append(f"HANDLER {quoted(handler)} {{")
            for device, given in devices.items():
                lines.append(f"    DEVICE {quoted(device)} {{")
                lines += [f"        {key} {quoted(value)}" for key, value in given]
                lines.append("    }")
            lines.append("}")
        lines += ["TARGET_DRIVER iscsi {", "    enabled 1"]
        lines += [f"    {name} {quoted(value)}" for name, value in self.driver]
        for name, target in self.targets.items():
            lines += [f"    TARGET {quoted(name)} {{", "        enabled 1"]
            lines += [f"        {key} {quoted(one)}" for key, one in target.attributes]
            own = self.groups.get(f"Default_{name}") or self.groups.get("Default")
            lines += _luns(own, "        ")
            for group, members in self.groups.items():
                if group == "Default" or group.startswith("Default_"):
                    continue
                lines.append(f"        GROUP {quoted(group)} {{")
                lines += _luns(members, "            ")
                lines += [
                    f"            INITIATOR {quoted(one)}" for one in members.names
                ]
                lines.append("        }")
            lines.append("    }")
        return "\n".join([*lines, "}", ""])


_FIXED = {
    "maxconnections",
    "defaulttime2wait",
    "defaulttime2retain",
    "datapduinorder",
    "datasequenceinorder",
    "errorrecoverylevel",
    "ofmarker",
    "ifmarker",
    "wthreads",
    "maxxmitdatasegmentlength",
    "maxoutstandingunexpectedpdus",
    "rdmaextensions",
    "type",
}
"""Words of the old file that are fixed today, or that nobody had use for."""


def _luns(group: Group | None, indent: str) -> Iterable[str]:
    for lun, (device, read_only) in sorted(group.luns.items() if group else ()):
        yield f"{indent}LUN {lun} {quoted(device)}" + (" {" if read_only else "")
        if read_only:
            yield f"{indent}    read_only 1"
            yield f"{indent}}}"


def _lines(
    text: str, file: str, *, sections: bool = False
) -> Iterable[tuple[Word, str]]:
    """
    Yield the first word of each line, and the rest as one text; of a section's head the
    whole.
    """
    for number, line in enumerate(text.split("\n"), 1):
        said = line.strip()
        if not said or said.startswith("#"):
            continue
        column = line.index(said) + 1
        if sections and said.startswith("["):
            yield Word(re.sub(r"\s+", " ", said), file, number, column), ""
            continue
        try:
            words = shlex.split(said, comments=True)
        except ValueError as error:
            raise ConfigurationError(f"{file}:{number}: {error}") from None
        yield Word(words[0], file, number, column), " ".join(words[1:])


def is_legacy(text: str) -> bool:
    """
    Say whether a file is one of the old ones.
    """
    return bool(
        re.search(r"^\s*(\[\w+.*\]|Target\s+\S+)\s*$", text, re.MULTILINE)
    ) and not re.search(r"^\s*(HANDLER|TARGET_DRIVER)\b", text, re.MULTILINE)


def convert(paths: Iterable[str]) -> tuple[str, list[str]]:
    """
    Return the scst.conf that these old files make together, and what was left out.

    :raises ConfigurationError: one cannot be read, or has mistakes: all are told.
    """
    converter = Converter()
    for path in paths:
        try:
            text = read_text(path, pipes=True)
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error
        if re.search(r"^\s*\[\w+", text, re.MULTILINE):
            converter.core(text, path)
        else:
            converter.iscsi(text, path)
    return converter.text(), converter.warnings
