# SPDX-License-Identifier: MIT
"""
Configuration files of the first iSCSI-SCST, made into today's scst.conf.

``iscsi-scstd.conf`` has the iSCSI side
(`scstd.management.converters.iscsi_scstd_conf`).  Devices and LUNs are in
``scst.conf``, which in its old form (before sysfs) has ``[HANDLER ...]``, ``[GROUP
...]`` and ``[ASSIGNMENT ...]`` sections.  In these ``#`` begins a comment. The group
``Default`` had the LUNs of every target, ``Default_<target>`` those of one; every other
group is a group of initiators, at every target.

Nothing is lost without a warning, and what comes out is right: it is read again
(`scstd.management.converters.converted`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from scstd.attributes import ConfigurationError
from scstd.management.converters.converted import (
    DRIVER,
    Converted,
    Device,
    Group,
    Lun,
    Pairs,
    Target,
)
from scstd.management.converters.iscsi_scstd_conf import read_iscsi
from scstd.management.grammar import scst_words
from scstd.management.grammar.scstconf import Word
from scstd.management.model.device_attributes import device_rows
from scstd.plugin import (
    find_device_handler,
    find_target_driver,
    target_name,
)
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

_VDISK = {"vdisk": "vdisk_fileio", "vdisk_blk": "vdisk_blockio"}
"""What handlers are called today."""


def _sections(text: str, file: str) -> Iterator[tuple[str, str, Word, str]]:
    """
    Yield section, its name, the first word and the rest of each line; of a section's
    head the word in brackets alone.
    """
    section = name = ""
    for number, line in enumerate(text.split("\n"), 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        column = line.index(said[0]) + 1
        if said.startswith("["):
            head = re.sub(r"\s+", " ", said)
            section, _blank, name = head.strip("[] ").partition(" ")
            yield section, name, Word(head, file, number, column), ""
            continue
        first, *_rest = said.split(None, 1)
        rest = said.removeprefix(first).strip()
        yield section, name, Word(first, file, number, column), rest


def read_core(found: Converted, text: str, file: str) -> None:
    """
    Take in a ``scst.conf`` with sections in brackets.
    """
    for section, name, word, value in _sections(text, file):
        if word.text.startswith("["):
            _head(found, section, name, word)
            continue
        fields = [field.strip() for field in value.split(",")]
        if section == "HANDLER" and word.text == "DEVICE":
            _device(found, word, name, fields)
        elif section == "GROUP" and word.text == "USER":
            _user(found, word, name, value)
        elif section == "ASSIGNMENT" and word.text == "DEVICE":
            _assign(found, word, name, fields)
        elif section == "TARGETS" and word.text in {"ENABLE", "DISABLE", "HOST"}:
            found.warn(word, "targets are enabled in scst.conf: left out")
        elif section != "OPTIONS":
            found.mistakes.append(word.wrong(f"not expected in [{section} {name}]"))


def _head(found: Converted, section: str, name: str, word: Word) -> None:
    if section == "GROUP":
        found.groups.setdefault(name, Group(word))
    elif section == "OPTIONS":
        found.warn(word, "what SCST's tool does is not set here: left out")
    elif section not in {"HANDLER", "ASSIGNMENT", "TARGETS"}:
        found.mistakes.append(word.wrong("expected HANDLER, GROUP, ..."))


def _user(found: Converted, word: Word, group: str, name: str) -> None:
    if group == "Default" or group.startswith("Default_"):
        found.warn(word, f"{name}: {group} is for who is in no other group: left out")
        return
    there = found.groups.setdefault(group, Group(word))
    there.names.append(Word(name, word.file, word.line, word.column))


def _device(found: Converted, word: Word, handler: str, fields: Sequence[str]) -> None:
    name, path, options, block_size, identity, *more = [*fields, *[""] * 5]
    if handler in scst_words.PASSED_THROUGH:
        found.warn(word, "devices are not passed through: left out")
        return
    chosen, given = _chosen(found, word, handler, options)
    if path and chosen != "vdisk_nullio":
        given.insert(0, ("filename", path))
    elif path not in {"", "none"}:
        found.warn(word, f"{path}: {chosen} has no file: left out")
    given += [("blocksize", block_size), ("t10_dev_id", identity)]
    try:
        rows = {row.name: row for row in device_rows(find_device_handler(chosen))}
    except ConfigurationError as error:
        found.mistakes.append(word.wrong(str(error)))
        return
    pairs: Pairs = []
    for attribute, value in given:
        left = scst_words.DEVICE.get(attribute)
        if value and attribute in rows:
            found.put(pairs, word, rows[attribute], value)
        elif value:
            why = left.warning() if left else f"{chosen} has none: left out"
            found.warn(word, f"{attribute}: {why}")
    if any(more):
        found.warn(word, f"{', '.join(filter(None, more))}: unknown: left out")
    if name in found.devices:
        found.warn(word, f"device {name} is there already: the later one counts")
    found.devices[name] = Device(word, chosen, pairs)


def _chosen(
    found: Converted, word: Word, handler: str, options: str
) -> tuple[str, list[tuple[str, str]]]:
    """
    Return the handler that a device's options choose, and the attributes they are.
    """
    chosen = _VDISK.get(handler, handler)
    given: list[tuple[str, str]] = []
    for option in options.replace("|", " ").split():
        if option in _HANDLERS:
            chosen = _HANDLERS[option]
        elif option in _OPTIONS:
            given.append(_OPTIONS[option])
        else:
            found.warn(word, f"option {option} is unknown: left out")
    return chosen, given


def _assign(found: Converted, word: Word, group: str, fields: Sequence[str]) -> None:
    device, number, options, *more = [*fields, "", "", ""]
    if re.fullmatch("[0-9]{1,5}", number) is None:
        found.mistakes.append(word.wrong("expected DEVICE NAME,LUN"))
        return
    words = options.replace("|", " ").split()
    for option in (*words, *filter(None, more)):
        if option not in {"RO", "READ_ONLY"}:
            found.warn(word, f"option {option} is unknown: left out")
    there = found.groups.setdefault(group, Group(word))
    there.luns[int(number)] = Lun(word, device, bool({"RO", "READ_ONLY"} & {*words}))


def _finish(found: Converted) -> None:
    """
    Have the targets that only their groups know, and say what no target has.
    """
    for name, group in list(found.groups.items()):
        if not name.startswith("Default_"):
            continue
        wanted = name.removeprefix("Default_")
        try:
            known, why = target_name(find_target_driver(DRIVER), wanted)
        except ConfigurationError as error:
            found.warn(group.word, f"{error}: left out")
            continue
        if why and known not in found.targets:
            found.warn(group.word, f"{wanted}: {why}")
        found.groups[f"Default_{known}"] = group
        found.targets.setdefault(known, Target(group.word))
    if not found.targets:
        for group in found.groups.values():
            found.warn(group.word, "there is no target that it could belong to")
    maps = [group.luns for group in found.groups.values()]
    maps += [target.luns for target in found.targets.values()]
    for luns in {id(one): one for one in maps}.values():
        for number, lun in list(luns.items()):
            if lun.device not in found.devices:
                found.warn(lun.word, f"there is no device {lun.device}: left out")
                del luns[number]


def is_legacy(text: str) -> bool:
    """
    Say whether a file is one of the old ones.
    """
    return bool(
        re.search(r"^\s*(\[\w+.*\]|Target\s+\S+)\s*(;|$)", text, re.MULTILINE)
    ) and not re.search(r"^\s*(HANDLER|TARGET_DRIVER)\b", text, re.MULTILINE)


def convert(paths: Iterable[str]) -> tuple[str, list[str]]:
    """
    Return the scst.conf that these old files make together, and what was left out.

    :raises ConfigurationError: one cannot be read, or has mistakes: all are told.
    """
    return convert_texts([(path, _text(path)) for path in paths])


def convert_texts(texts: Sequence[tuple[str, str]]) -> tuple[str, list[str]]:
    """
    Do the same with files that are read already: their names, and what is in them.

    :raises Mistakes: there are mistakes in them.
    """
    core = [bool(re.search(r"^\s*\[\w+", text, re.MULTILINE)) for _path, text in texts]
    found = Converted()
    for (path, text), sections in zip(texts, core, strict=True):
        if sections:
            read_core(found, text, path)
        else:
            read_iscsi(found, text, path, luns=not any(core))
    _finish(found)
    return found.text(), found.warnings


def _text(path: str) -> str:
    try:
        return read_text(path, pipes=True)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
