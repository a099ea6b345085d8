# SPDX-License-Identifier: MIT
"""
``iscsi-scstd.conf`` of the first iSCSI-SCST, and ``ietd.conf`` that it came from.

What stands before the first ``Target`` is the driver's, the rest is that target's.  The
rules are iscsi-scstd.conf(5)'s: a line that begins with ``#`` is a comment, and there
are no others; words are parted by blanks, and nothing takes the meaning of a character
away; a directive ends with its line, or at a semicolon.  In ietd.conf, which has words
of its own, a backslash at the end of a line has it go on with the next.

``Lun`` lines are ietd.conf's: they become devices and LUNs.  Beside an old scst.conf,
which has both, they meant nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scstd.attributes import Attribute, ConfigurationError, unknown
from scstd.management.converters.converted import (
    DRIVER,
    Converted,
    Device,
    Lun,
    Pairs,
    Target,
)
from scstd.management.grammar import scst_words
from scstd.management.grammar.scstconf import Word
from scstd.management.model.device_attributes import device_rows
from scstd.management.model.target_attributes import target_rows
from scstd.plugin import (
    find_device_handler,
    find_target_driver,
    target_name,
)

_OTHER_NAMES = {"nopinterval": "nopininterval", "noptimeout": "nopintimeout"}
"""ietd.conf's words for ours."""

_FIXED: Mapping[str, tuple[str, ...]] = {
    "defaulttime2retain": ("0",),
    "defaulttime2wait": ("0",),
    "errorrecoverylevel": ("0",),
    "initiatorrecvdatasegmentlength": (),
    "iserhellorequired": ("no",),
    "maxahslength": (),
    "maxconnections": ("1",),
    "maxoutstandingunexpectedpdus": (),
    "targetrecvdatasegmentlength": (),
    "type": (),
    "wthreads": (),
}
"""Words that were fixed then, or that nobody has use for, with what they were."""

_TYPES = {
    "fileio": "vdisk_fileio",
    "blockio": "vdisk_blockio",
    "nullio": "vdisk_nullio",
}

_LUN: Mapping[str, str] = {
    "path": "filename",
    "scsiid": "t10_dev_id",
    "scsisn": "usn",
    "blocksize": "blocksize",
}
"""Parameters of a Lun line, and today's attributes."""


def read_iscsi(found: Converted, text: str, file: str, *, luns: bool) -> None:
    """
    Take in a file; with *luns* its ``Lun`` lines, too.
    """
    _Reader(found, luns).file(text, file)


def _is_ietd(text: str) -> bool:
    own = r"^\s*(Lun|NOPInterval|NOPTimeout|Wthreads)\s"
    return re.search(own, text, re.MULTILINE | re.IGNORECASE) is not None


def _directives(text: str, file: str) -> Iterator[tuple[Word, list[str], str]]:
    """
    Yield the first word of each directive, the others, and all behind it as it stands.
    """
    ietd = _is_ietd(text)
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at]
        while ietd and line.endswith("\\") and at + 1 < len(lines):
            at += 1
            line = f"{line[:-1]} {lines[at].strip()}"
        at += 1
        if line.strip().startswith("#"):
            continue
        column = 1
        for said in [line] if ietd else line.split(";"):
            words = said.split()
            if words and not words[0].startswith("#"):
                where = column + len(said) - len(said.lstrip())
                rest = said.strip().removeprefix(words[0]).strip()
                yield Word(words[0], file, number, where), words[1:], rest
            column += len(said) + 1


class _Reader:
    """
    Reads one file.
    """

    def __init__(self, found: Converted, luns: bool) -> None:
        driver = find_target_driver(DRIVER)
        self._of_driver = {row.name.lower(): row for row in driver.attributes()}
        self._of_target = {row.name.lower(): row for row in target_rows(driver)}
        self._left = {name.lower(): left for name, left in scst_words.TARGET.items()}
        self._found = found
        self._luns = luns
        self._target: Target | None = None
        self._control = False
        self._ping = ""

    def file(self, text: str, file: str) -> None:
        """Take it in."""
        found = self._found
        for word, words, rest in _directives(text, file):
            key = word.text.lower()
            if key == "target":
                self._begin(word, words)
            elif key == "lun" and self._target is not None:
                self._lun(word, words, self._target)
            elif key == "isnsaccesscontrol" and self._target is None:
                self._control = rest.lower() != "no"
            else:
                self._attribute(word, key, words, rest)
        if self._control:
            found.driver[:] = [
                (
                    word,
                    name,
                    f"{value} AccessControl" if name == "iSNSServer" else value,
                )
                for word, name, value in found.driver
            ]

    def _begin(self, word: Word, words: list[str]) -> None:
        found = self._found
        if len(words) != 1:
            found.mistakes.append(word.wrong("expected one name after it"))
            self._target = Target(word)
            return
        try:
            name, why = target_name(find_target_driver(DRIVER), words[0])
        except ConfigurationError as error:
            found.mistakes.append(word.wrong(str(error)))
            name, why = words[0], ""
        if why:
            found.warn(word, f"{words[0]}: {why}")
        self._target = found.targets.setdefault(name, Target(word))
        self._ping = ""

    def _attribute(self, word: Word, key: str, words: list[str], rest: str) -> None:
        found, target = self._found, self._target
        known = self._of_driver if target is None else self._of_target
        key = _OTHER_NAMES.get(key, key)
        user = re.fullmatch(r"(incoming|outgoing)user\d*", key)
        if user:
            row = known[f"{user[1]}user"]
            self._account(word, row, words)
        elif key in _FIXED:
            if rest.lower() not in _FIXED[key]:
                found.warn(word, "it is fixed, or means nothing here: left out")
        elif key in known:
            self._value(word, known[key], words, rest)
        elif key in self._left and target is not None:
            left = self._left[key]
            if not left.says_nothing(rest):
                found.warn(word, left.warning())
        elif key in self._of_target or key in self._of_driver:
            found.warn(word, "it does not belong here: left out")
        else:
            names = [row.name for row in known.values()]
            found.mistakes.append(word.wrong(unknown("word", word.text, names)))

    def _value(
        self, word: Word, row: Attribute[object], words: list[str], rest: str
    ) -> None:
        found = self._found
        where = found.driver if self._target is None else self._target.attributes
        # A list of digests is written without blanks today.
        text = "".join(words) if row.name.endswith("Digest") else rest
        if row.name == "NopInInterval":
            self._ping = text
        if row.name == "NopInTimeout" and text == "0" and self._ping in {"", "0"}:
            # Nobody is pinged.
            return
        if any(name == row.name for _word, name, _value in where):
            found.warn(word, "it is there already: the one before is used")
            return
        found.put(where, word, row, text)

    def _account(self, word: Word, row: Attribute[object], words: list[str]) -> None:
        """
        Take in an account, or have nobody let in where it would have been asked for.
        """
        found, target = self._found, self._target
        where = found.driver if target is None else target.attributes
        if any('"' in one or "'" in one for one in words[:1]):
            found.warn(word, "quotes are part of the name, as they were then")
        if len(words) != 2:
            self._no_account(word, row, "expected a name and a secret")
            return
        try:
            row.parse(" ".join(words))
        except ConfigurationError as error:
            self._no_account(word, row, str(error))
            return
        if row.name == "OutgoingUser":
            for one in [one for one in where if one[1] == row.name]:
                where.remove(one)
                found.warn(one[0], "left out: there is a later one, which counts")
        where.append((word, row.name, " ".join(words)))

    def _no_account(self, word: Word, row: Attribute[object], why: str) -> None:
        target = self._target
        what = "the account is left out"
        if row.name == "IncomingUser" and target is not None:
            target.guarded = True
            what += "; with no other one the target is not enabled"
        elif row.name == "IncomingUser":
            what += ": everybody may discover targets"
        self._found.warn(word, f"{why}: {what}")

    # LUNs.

    def _lun(self, word: Word, words: list[str], target: Target) -> None:
        found = self._found
        if not self._luns:
            found.warn(word, "LUNs are in scst.conf (LUN, in a TARGET): left out")
            return
        if len(words) < 2 or re.fullmatch("[0-9]{1,5}", words[0]) is None:
            found.mistakes.append(word.wrong("expected Lun NUMBER Path=...,Type=..."))
            return
        given = {}
        for part in "".join(words[1:]).split(","):
            name, _equals, value = part.partition("=")
            given[name.lower()] = value
        handler = _TYPES.get(given.pop("type", "fileio").lower())
        if handler is None:
            found.mistakes.append(word.wrong("expected Type=fileio, blockio or nullio"))
            return
        mode = given.pop("iomode", "wb").lower()
        pairs = self._lun_pairs(word, handler, given)
        if mode == "wt":
            pairs.append((word, "write_through", "1"))
        elif mode not in {"wb", "ro"}:
            found.warn(word, f"IOMode {mode} is unknown: left out")
        name = self._device(word, handler, pairs)
        if int(words[0]) in target.luns:
            found.warn(word, "this LUN is there already: the later one counts")
        target.luns[int(words[0])] = Lun(word, name, mode == "ro")

    def _lun_pairs(self, word: Word, handler: str, given: dict[str, str]) -> Pairs:
        found = self._found
        rows = {row.name: row for row in device_rows(find_device_handler(handler))}
        pairs: Pairs = []
        sectors = given.pop("sectors", "")
        if sectors:
            size = str(int(sectors) << 9) if sectors.isdigit() else sectors
            found.put(pairs, word, rows["size"], size)
        for name, value in given.items():
            row = rows.get(_LUN.get(name, ""))
            if row is None:
                found.warn(word, f"{name} is unknown, or means nothing here: left out")
            else:
                found.put(pairs, word, row, value)
        return pairs

    def _device(self, word: Word, handler: str, pairs: Pairs) -> str:
        """
        Return the name of the device that is made of this: of one file one device.
        """
        devices = self._found.devices
        said = [(name, value) for _word, name, value in pairs]
        path = dict(said).get("filename", "")
        for name, one in devices.items():
            if path and ("filename", path) in [pair[1:] for pair in one.attributes]:
                if [pair[1:] for pair in one.attributes] != said:
                    why = f"{path} is device {name}'s already: as that has it"
                    self._found.warn(word, why)
                return name
        name = _free(Path(path).stem or handler.removeprefix("vdisk_"), devices)
        devices[name] = Device(word, handler, pairs)
        return name


def _free(wanted: str, taken: Mapping[str, object]) -> str:
    """
    Return a name of a device that is not taken.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", wanted).lstrip(".-")[:50] or "disk"
    numbered: Callable[[int], str] = lambda n: f"{plain}_{n}" if n else plain  # noqa: E731
    return next(
        name for name in map(numbered, range(len(taken) + 1)) if name not in taken
    )
