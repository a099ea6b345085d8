# SPDX-License-Identifier: MIT
"""
What is remembered of a medium, and on which one it is gone on with.

A device's file and its record are known by the device's name.  Who the device is, what
hosts have reserved and what modes are saved goes with that name, whatever is behind it.
A sanitize or format operation that is not over, one that has failed, and the record of
an atomic write go with the medium: on another one they would destroy what somebody has
put there.  So the file has the identity of the medium too
(`scstd.interfaces.IMediumIdentity`), and when another one is opened, or one that cannot
be told, what is pending is put aside, into a file ``NAME.aside-N`` of its own.  There
it waits for its medium: when that is opened under the device's name again it is taken
up.  A person may say that it is to be taken up on the medium there is (a copy of the
one it is of, say), or forgotten.

Each step is durable before the next: put aside, the record cleared, the file changed;
and back: the file changed, the record written, what was aside removed.  A crash between
two of them leaves it in both places, never in none, and the steps are taken again.
"""

from __future__ import annotations

import json
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import Logger

from scstd.block.capabilities import Capabilities
from scstd.block.remembered import MEDIUM, OPERATION, Job, described, pending
from scstd.interfaces import IBackstore
from scstd.management.model.configuration import DeviceConfiguration
from scstd.management.model.device_attributes import READ_ONLY
from scstd.management.state.device_memory import DeviceMemory
from scstd.management.state.durable import beside, sync_directory, write_atomically
from scstd.results import settled
from scstd.textfile import read_regular

_log = Logger()


@attrs.frozen
class Aside:
    """
    What is put aside of one *medium*: an *operation*, a *record*.  *confirmed* says
    that a person wants it taken up on whatever medium there is.
    """

    path: Path
    medium: str | None
    operation: dict[str, Any] | None
    record: bytes
    confirmed: bool = False

    @property
    def what(self) -> str:
        """What it is, for a person."""
        return described(self.operation, self.record)

    def __str__(self) -> str:
        """Return all there is to say, for a person."""
        wanted = ", to be taken up at the next opening" if self.confirmed else ""
        return f"{self.path.name}: {self.what}, of {self.medium or 'unknown'}{wanted}"

    def has(self, other: Aside) -> bool:
        """
        Say whether another is in it: it was being put aside before, and its record has
        gone already.
        """
        return (
            self.medium == other.medium
            and self.operation == other.operation
            and other.record in {b"", self.record}
        )

    def write(self) -> None:
        """Write it, durably."""
        values = {
            MEDIUM: self.medium,
            OPERATION: self.operation,
            "record": self.record.hex(),
            "confirmed": self.confirmed,
        }
        write_atomically(self.path, json.dumps(values, indent=1).encode() + b"\n")

    def remove(self) -> None:
        """Remove it, durably."""
        self.path.unlink(missing_ok=True)
        sync_directory(self.path.parent)

    @classmethod
    def read(cls, path: Path) -> Aside:
        """
        Read one.

        :raises OSError: it cannot be read.
        :raises ValueError: it is none.
        """
        values = json.loads(read_regular(path))
        try:
            operation = values[OPERATION]
            if operation is not None:
                Job.of(operation)
                bool(operation["failed"])
            return cls(
                path,
                values[MEDIUM],
                operation,
                bytes.fromhex(values["record"]),
                bool(values["confirmed"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is malformed: {error}") from error


def asides_of(memory: DeviceMemory) -> list[Aside]:
    """
    Return what is put aside of a device; may wait.
    """
    file = memory.path
    found = []
    for path in map(file.with_name, beside(file.parent, f"{file.stem}.aside-")):
        if not path.suffix.removeprefix(".aside-").isdecimal():
            continue
        try:
            found.append(Aside.read(path))
        except (OSError, ValueError) as error:
            _log.error("{file}: {error}", file=str(path), error=error)
    return found


async def identity_of(store: IBackstore, device: DeviceConfiguration) -> str | None:
    """
    Return what tells a store's medium from every other: what it says itself, or how it
    is configured; None if that cannot be told, or telling it fails.
    """
    told_by = Capabilities.of(store).medium_identity
    if told_by is not None:
        try:
            identity: Any = await settled(told_by.medium_identity())
        except Exception as error:  # noqa: BLE001 - it is somebody's
            _log.error(
                "device {name}: which medium it has cannot be told: {error}",
                name=device.name,
                error=error,
            )
            return None
        return None if identity is None else str(identity)
    own = {row.name for row in device.handler.parameters()} - {READ_ONLY.name}
    values = sorted((name, str(device.values.get(name))) for name in own)
    told = repr((device.handler.name, values, store.size, store.block_size))
    return f"configuration {sha256(told.encode()).hexdigest()[:32]}"


async def bind(memory: DeviceMemory, name: str, medium: str | None) -> list[Aside]:
    """
    See that *memory*, of a device that is being opened with *medium*, has of media what
    is of that one alone; return what is put aside.
    """
    if not memory.durable:
        return []
    memory.foreign = ""
    asides: list[Aside] = await memory.lane.call(asides_of, memory)
    values = memory.load()
    left = pending(values) is not None or bool(memory.record)
    same = medium is not None and values.get(MEDIUM) == medium
    wanted = [one for one in asides if _is_of(one, medium)]
    if left and not same:
        asides = await _put_aside(memory, name, medium, asides)
    elif not left and values.get(MEDIUM, "") != medium:
        memory.insist(MEDIUM, medium)
    for one in wanted:
        if not memory.foreign and await _take_up(memory, name, one):
            asides = [other for other in asides if other.path != one.path]
    return asides


def _is_of(aside: Aside, medium: str | None) -> bool:
    return aside.confirmed or (medium is not None and aside.medium == medium)


async def _put_aside(
    memory: DeviceMemory, name: str, medium: str | None, asides: list[Aside]
) -> list[Aside]:
    """
    Put aside what is pending of another medium; return all that is.
    """
    values = memory.load()
    found = Aside(memory.path, values.get(MEDIUM), pending(values), memory.record)
    there = [one for one in asides if one.has(found)]
    try:
        if there:
            found = there[0]
        else:
            found = await memory.lane.call(_keep, found)
        if memory.record:
            await settled(memory.clear())
        memory.update(MEDIUM, medium)
        memory.update(OPERATION, None)
        await memory.settled()
    except OSError as error:
        memory.foreign = f"{found.what} of another medium cannot be put aside"
        _log.error(
            "device {name}: {what} is of another medium and not gone on with, but stays"
            " in {file}, for it cannot be put aside: {error}; until it is there are no"
            " sanitize and format operations and no atomic writes",
            name=name,
            what=found.what,
            file=str(memory.path),
            error=error,
        )
        return asides
    finally:
        memory.gather()
    _log.error(
        "device {name}: {what} is not gone on with: it is of {medium}, and the medium"
        " now is {now}; it is kept in {file}",
        name=name,
        what=found.what,
        medium=found.medium or "a medium that is not known",
        now=medium or "one that cannot be told",
        file=str(found.path),
    )
    return asides if there else [*asides, found]


def _keep(aside: Aside) -> Aside:
    """
    Write what is to be put aside beside the file that it is of, under a name that
    nothing has; return it with that name.
    """
    file = aside.path
    paths = (file.with_name(f"{file.stem}.aside-{number}") for number in count(1))
    path = next(one for one in paths if not one.exists())
    kept = attrs.evolve(aside, path=path)
    kept.write()
    return kept


async def _take_up(memory: DeviceMemory, name: str, aside: Aside) -> bool:
    """
    Have *memory* what was put aside of the medium that is there now; say whether all of
    it was.
    """
    operation, record = aside.operation, aside.record
    there = pending(memory.load()), memory.record
    # What is the same was being taken up already, and must not come a second time.
    if (operation and there[0] not in (None, operation)) or (
        record and there[1] not in {b"", record}
    ):
        return False
    try:
        if operation is not None and not there[0]:
            memory.update(OPERATION, operation)
        await memory.settled()
        if record and not there[1]:
            await settled(memory.keep(record))
        await memory.lane.call(aside.remove)
    except OSError as error:
        memory.foreign = f"{aside.what} cannot be taken up"
        _log.error(
            "device {name}: {what} cannot be taken up from {file}: {error}",
            name=name,
            what=aside.what,
            file=str(aside.path),
            error=error,
        )
        return False
    finally:
        memory.gather()
    _log.warn(
        "device {name}: {what} is taken up again: its medium is back",
        name=name,
        what=aside.what,
    )
    return True
