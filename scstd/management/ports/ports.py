# SPDX-License-Identifier: MIT
"""
Relative target port identifiers: one numbering for the targets of all drivers.

They are unique, and the same after every restart, for initiators keep them.  What is
configured (``rel_tgt_id``) comes first, then what is remembered in ``ports.json`` of
the state directory, then what nobody has had yet.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from scstd.attributes import ConfigurationError
from scstd.management.errors import TreeError
from scstd.management.model.group_configuration import (
    MAX_NUMBER,
    NUMBER,
    DeviceGroupConfiguration,
)
from scstd.management.state.durable import DamagedError, Kept, locked, make_directory


def others(groups: Iterable[DeviceGroupConfiguration]) -> list[tuple[str, int]]:
    """
    Return (port, number) of the ports of target groups that are given one.
    """
    return [
        (port, number)
        for one in groups
        for group in one.groups
        for port, number in group.ports.items()
        if number is not None
    ]


def configured(
    ours: Mapping[str, int | None], theirs: Iterable[tuple[str, int]]
) -> dict[str, int]:
    """
    Return what the configuration says: of *ours*, our targets' names with the
    ``rel_tgt_id`` of each or None, and of the ports of target groups (`others`).

    :raises TreeError: two ports have the same (EEXIST), or one has two (EINVAL).
    """
    found: dict[str, int] = {}
    taken: dict[int, str] = {}
    for port, number in [*ours.items(), *theirs]:
        if number is None:
            continue
        if found.setdefault(port, number) != number:
            raise TreeError(
                errno.EINVAL, f"{port} has two {NUMBER}, {found[port]} and {number}"
            )
        if taken.setdefault(number, port) != port:
            raise TreeError(
                errno.EEXIST,
                f"{taken[number]} and {port} have the same {NUMBER} {number}",
            )
    return found


def relative_ports(
    ours: Mapping[str, int | None],
    theirs: Mapping[str, int],
    remembered: Mapping[str, int],
) -> dict[str, int]:
    """
    Return the relative target port identifier of every port: of *ours* with what is
    configured, and of *theirs*, ports of other nodes.

    :raises ConfigurationError: see `configured`; or none is free.
    """
    found = configured(ours, theirs.items())
    taken = set(found.values())
    for port in ours:
        number = remembered.get(port)
        if port not in found and number and number not in taken:
            found[port] = number
            taken.add(number)
    # What another target had once is given away only when nothing else is left.
    had = set(remembered.values())
    free = chain(
        (
            one
            for one in range(1, MAX_NUMBER + 1)
            if one not in taken and one not in had
        ),
        sorted(had - taken),
    )
    for port in ours:
        if port not in found:
            number = next(free, None)
            if number is None:
                raise ConfigurationError(f"no {NUMBER} is free for {port}")
            found[port] = number
    return found


def _parse(data: bytes) -> dict[str, int]:
    kept = json.loads(data)
    if not isinstance(kept, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - as all else here
    for name, number in kept.items():
        if type(number) is not int or not 1 <= number <= MAX_NUMBER:
            raise ValueError(f"{name!r} has no number from 1 to {MAX_NUMBER}")
    return kept


@attrs.define(eq=False)
class Ports:
    """
    The numbers that are remembered in a state *directory*; *call* is that of a
    `scstd.blocking.Lane`, which reads and writes there.  Another process with the same
    directory may add its own.
    """

    directory: Path
    call: Callable[..., Deferred[Any]]
    _remembered: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.directory / "ports.json"

    async def number(
        self, ours: Mapping[str, int | None], theirs: Mapping[str, int]
    ) -> dict[str, int]:
        """
        Return what `relative_ports` does; ours are remembered from now on.

        :raises ConfigurationError: see there; or the file cannot be read or written.
        """
        found = relative_ports(ours, theirs, self._remembered)
        if not _of(ours, found).items() <= self._remembered.items():
            try:
                found = await self.call(self._remember, dict(ours), dict(theirs))
            except (OSError, DamagedError) as error:
                raise ConfigurationError(f"{self.path}: {error}") from error
        return found

    def _remember(
        self, ours: Mapping[str, int | None], theirs: Mapping[str, int]
    ) -> dict[str, int]:
        make_directory(self.directory)
        kept = Kept(self.path, _parse, "targets get new numbers")
        with locked(self.path):
            remembered = kept.read() or {}
            found = relative_ports(ours, theirs, remembered)
            after = {**remembered, **_of(ours, found)}
            if after != remembered:
                data = json.dumps(after, indent=1, sort_keys=True) + "\n"
                kept.write(data.encode())
        self._remembered = after
        return found


def _of(ours: Mapping[str, int | None], found: Mapping[str, int]) -> dict[str, int]:
    return {port: number for port, number in found.items() if port in ours}
