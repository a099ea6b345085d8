# SPDX-License-Identifier: MIT
"""
initiators.allow and initiators.deny: which addresses may see targets, as in SCST.

A line names a target, or ALL, and then addresses with or without a mask, or ALL::

    iqn.2026-11.org.example:disk  192.0.2.0/24, [2001:db8::]/32
    ALL                           ALL

Only the first line of a file that names the target or ALL counts.  Who is denied and
not allowed is refused.  The files are read again when they have changed.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import attrs
from twisted.logger import Logger

from scstd.textfile import read_text

_log = Logger()

Lines = list[tuple[str, list[str]]]


@attrs.define(eq=False)
class _File:
    """
    One file, as it was when it was last read.
    """

    path: Path
    _stamp: tuple[int, int] | None = None
    _lines: Lines = attrs.field(factory=list)

    def lines(self) -> Lines:
        """
        Return (target, addresses) of each line.
        """
        try:
            found = os.stat(self.path)  # noqa: PTH116 - as cheap as it gets
            stamp = (found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                self._lines = _parse(read_text(self.path))
                self._stamp = stamp
        except FileNotFoundError:
            self._stamp, self._lines = None, []
        except OSError as error:
            _log.error("{path}: {error}", path=str(self.path), error=error)
        return self._lines


def _parse(text: str) -> Lines:
    lines: Lines = []
    for line in text.splitlines():
        words = line.partition("#")[0].replace(",", " ").split()
        if len(words) > 1:
            lines.append((words[0], words[1:]))
    return lines


def within(address: str, pattern: str) -> bool:
    """
    Say whether an address is one of those that a word of the files means.
    """
    if pattern == "ALL":
        return True
    try:
        host = ipaddress.ip_address(address.partition("%")[0])
        network = ipaddress.ip_network(
            pattern.replace("[", "").replace("]", ""), strict=False
        )
    except ValueError:
        return False
    return host.version == network.version and host in network


@attrs.define(eq=False)
class Hosts:
    """
    Both files.
    """

    allow: _File
    deny: _File

    @classmethod
    def of(cls, allow: str, deny: str) -> Hosts:
        """
        Return the two files at these paths.
        """
        return cls(_File(Path(allow)), _File(Path(deny)))

    def refused(self, target: str, address: str) -> bool:
        """
        Say whether an initiator's address may not see a target.
        """
        return _named(self.deny.lines(), target, address) and not _named(
            self.allow.lines(), target, address
        )


def _named(lines: Lines, target: str, address: str) -> bool:
    for name, addresses in lines:
        if name in {"ALL", target}:
            return any(within(address, one) for one in addresses)
    return False
