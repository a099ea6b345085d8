# SPDX-License-Identifier: MIT
"""
Relative target port identifiers: one numbering for the targets of all drivers.

They are unique, and the same after every restart, for initiators keep them.  What is
configured (``rel_tgt_id``) comes first, then what is remembered in ``ports.json`` of
the state directory, then what nobody has had yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path

from scstd.attributes import ConfigurationError
from scstd.blocking import Lane
from scstd.management.groups import DeviceGroupConfiguration
from scstd.management.state import write_atomically

MOST = 65535


def configured(
    ours: Mapping[str, int | None], groups: Iterable[DeviceGroupConfiguration]
) -> dict[str, int]:
    """
    Return what the configuration says: of *ours*, our targets' names with the
    ``rel_tgt_id`` of each or None, and of the ports of target groups.

    :raises ConfigurationError: two ports have the same, one has two, or one of another
        node has none.
    """
    found: dict[str, int] = {}
    taken: dict[int, str] = {}
    named = [
        (port, number)
        for one in groups
        for group in one.groups
        for port, number in group.ports.items()
    ]
    for port, number in [*ours.items(), *named]:
        if number is None:
            continue
        if found.setdefault(port, number) != number:
            raise ConfigurationError(
                f"{port} has two rel_tgt_id, {found[port]} and {number}"
            )
        if taken.setdefault(number, port) != port:
            raise ConfigurationError(
                f"{taken[number]} and {port} have the same rel_tgt_id {number}"
            )
    for port, _number in named:
        if port not in ours and port not in found:
            raise ConfigurationError(
                f"{port} is no target of ours: give its rel_tgt_id"
            )
    return found


def relative_ports(
    ours: Mapping[str, int | None],
    groups: Iterable[DeviceGroupConfiguration],
    remembered: Mapping[str, int],
) -> dict[str, int]:
    """
    Return the relative target port identifier of every port.

    :raises ConfigurationError: see `configured`; or none is free.
    """
    found = configured(ours, groups)
    taken = set(found.values())
    for port in ours:
        number = remembered.get(port)
        if port not in found and number and number not in taken:
            found[port] = number
            taken.add(number)
    # What another target had once is given away only when nothing else is left.
    had = set(remembered.values())
    free = chain(
        (one for one in range(1, MOST + 1) if one not in taken and one not in had),
        sorted(had - taken),
    )
    for port in ours:
        if port not in found:
            number = next(free, None)
            if number is None:
                raise ConfigurationError(f"no rel_tgt_id is free for {port}")
            found[port] = number
    return found


async def number_ports(
    ours: Mapping[str, int | None],
    groups: Iterable[DeviceGroupConfiguration],
    directory: Path,
    lane: Lane,
) -> dict[str, int]:
    """
    Return what `relative_ports` does, remembered in the state *directory*; *lane*
    writes there.

    :raises ConfigurationError: see there; or the file cannot be read or written.
    """
    path = directory / "ports.json"
    try:
        kept = json.loads(path.read_bytes())
        remembered = {str(name): int(number) for name, number in kept.items()}
    except FileNotFoundError:
        remembered = {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    found = relative_ports(ours, groups, remembered)
    mine = {port: number for port, number in found.items() if port in ours}
    if mine.items() <= remembered.items():
        return found
    data = json.dumps({**remembered, **mine}, indent=1, sort_keys=True) + "\n"
    try:
        await lane.call(_write, path, data.encode())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return found


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, data)
