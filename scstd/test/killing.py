# SPDX-License-Identifier: MIT
"""
Kill the server at random moments of a series of changes to persistent reservations:
``python -m scstd.test.killing --kills 1000``.

Two initiators change registrations and the reservation, with APTPL, one change after
the other, until the server is killed (SIGKILL).  It is started again on the same state
directory, and has to have the state before the change that was under way, or the one
after it.  What these states are a second device server says, which does the same in
memory and is never killed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs

from scstd.block.persistence import Volatile
from scstd.initiator.blocking import BlockingSession, name_of
from scstd.initiator.reservations import (
    ABORT,
    APTPL,
    CLEAR,
    IGNORE,
    MOVE,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
    TYPES,
    FullStatus,
    full_status,
    in_cdb,
    moving,
    out_cdb,
    parameters,
    transport_id,
)
from scstd.scsi.persistent import ReservationState
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import serve
from scstd.test.reserving import Registrant
from scstd.test.serving import Server
from scstd.test.stores import memory

MOST = 4
"""Changes that are answered at most before the end is near."""

LONGEST = 0.02
"""Seconds from then to the kill at most: some changes more."""

_ISIDS = {number: b"\x80\0\0" + number.to_bytes(3, "big") for number in (1, 2)}


@attrs.define
class Found:
    """
    What a run has found: changes that were answered, how often the last change was
    there after the kill though it was not answered, how often it was not, and states
    that were neither.
    """

    seed: int
    kills: int = 0
    changes: int = 0
    after: int = 0
    before: int = 0
    wrong: list[str] = attrs.field(factory=list)


class Model:
    """
    A device server in memory: what the other one should do.
    """

    def __init__(self) -> None:
        node, _target, units = serve(memory())
        self.unit: LogicalUnit = units[0]
        self.unit.memory = Volatile(durable=True)
        self.initiators = {}
        for number, isid in _ISIDS.items():
            one = Registrant(node, name=name_of(number), isid=isid)
            one.ready()
            self.initiators[number] = one

    @property
    def state(self) -> ReservationState:
        """The state of its persistent reservations."""
        return self.unit.reservation.persistent

    def status(self) -> list[FullStatus]:
        """Return its full status."""
        for one in self.initiators.values():
            one.told()
        return self.initiators[1].full()

    def out(self, number: int, cdb: bytes, data: bytes) -> int:
        """Carry out a command; return its status."""
        initiator = self.initiators[number]
        while True:
            done = initiator.do(cdb, data=data)
            if done.status != 2 or done.key != 6:
                return done.status


def _choose(chance: random.Random, model: Model) -> tuple[int, bytes, bytes]:
    """
    Return an initiator, and the CDB and parameter list of something to do: mostly what
    succeeds.
    """
    number = chance.choice((1, 2))
    other = 3 - number
    keys = {
        it[0].partition(",")[0]: key for it, key in model.state.registrations.items()
    }
    key = keys.get(name_of(number), 0)
    action_key = keys.get(name_of(other), 0) or chance.randrange(1, 1 << 64)
    action = chance.choice(
        (RESERVE, RESERVE, RELEASE, CLEAR, PREEMPT, ABORT, MOVE, REGISTER, IGNORE)
        if key
        else (REGISTER, IGNORE)
    )
    kind = model.state.type if action == RELEASE else None
    if action in {REGISTER, IGNORE}:
        action_key = chance.choice((0, chance.randrange(1, 1 << 64)))
    if action == MOVE:
        port = transport_id(name_of(other), _ISIDS[other])
        data = moving(key, action_key, port, flags=chance.choice((1, 3)))
    else:
        data = parameters(key, action_key, APTPL)
    return number, out_cdb(action, kind or chance.choice(TYPES), len(data)), data


@contextmanager
def _served(directory: str) -> Iterator[Server]:
    with Server("--device", "d=memory:size=1M", directory=directory) as server:
        server.expect_kill()
        yield server


def run(directory: str, kills: int, seed: int | None = None) -> Found:
    """
    Kill a server that keeps its state in *directory* so many times.
    """
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    chance = random.Random(seed)
    model, found = Model(), Found(seed)
    allowed = [model.state]
    while True:
        with _served(directory) as server:
            sessions = {
                number: BlockingSession(server.url, number) for number in _ISIDS
            }
            try:
                done = sessions[1].do(in_cdb(3), read=8192)
                _compare(model, allowed, full_status(done.data), found)
                if found.kills == kills or found.wrong:
                    return found
                allowed = _work(chance, model, sessions, found, server)
                server.process.wait(60)
                found.kills += 1
            finally:
                for session in sessions.values():
                    session.close()


def _compare(
    model: Model, allowed: list[ReservationState], there: list[FullStatus], found: Found
) -> None:
    """
    See which of the states that may be there is there, and go on with it.
    """
    expected = []
    for state in allowed:
        model.unit.reservation.restore(state)
        expected.append(model.status())
        if expected[-1] == there:
            if allowed[0] is not allowed[-1]:
                found.after += state is allowed[-1]
                found.before += state is allowed[0]
            return
    found.wrong.append(f"kill {found.kills}: {there} is none of {expected}")


def _work(
    chance: random.Random,
    model: Model,
    sessions: dict[int, BlockingSession],
    found: Found,
    server: Server,
) -> list[ReservationState]:
    """
    Change things until the server is gone; return the states that may be there then.

    It is killed some moments after so many changes: by the clock alone a busy machine
    would get nothing done before.
    """
    timer = threading.Timer(chance.uniform(0, LONGEST), server.process.kill)
    due = found.changes + chance.randint(1, MOST)
    while True:
        if found.changes >= due and timer.ident is None:
            timer.start()
        number, cdb, data = _choose(chance, model)
        before = model.state
        status = model.out(number, cdb, data)
        try:
            done = sessions[number].do(cdb, data=data)
            while done.status == 2 and done.sense[2] & 15 == 6:
                done = sessions[number].do(cdb, data=data)
        except OSError:
            return [before, model.state]
        if done.status != status:
            found.wrong.append(f"{cdb.hex()}: status {done.status}, not {status}")
        found.changes += model.state is not before


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run it and print what was found; return 1 if that was wrong.
    """
    parser = argparse.ArgumentParser(description="Kill a server while it reserves.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        found = run(directory, chosen.kills, chosen.seed)
    print(
        f"seed {found.seed}: {found.kills} kills, {found.changes} changes answered;"
        f" of those under way {found.after} were kept, {found.before} were not"
    )
    for line in found.wrong:
        print(line)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
