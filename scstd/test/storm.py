# SPDX-License-Identifier: MIT
"""
The storm: ``python -m scstd.test.storm --seeds N``.

A system is changed in every way at once, while initiators come, work, abort and go:
configurations are read, devices opened, resized and closed, LUNs, groups, targets and
portals changed, commands held, sessions ended.  Stores, threads and ports answer late,
out of order, or with errors, so that everything meets everything else at each point
where it waits.  A seed decides all of it: what fails can be repeated.

After each step nothing may have been logged as an error, sessions see the LUNs of their
maps and no others, no store was asked for what it must not do, counters are right, and
what was refused has changed nothing.  At rest the configuration reads back from its
file.  At the end everything that was begun has ended, and nothing is left.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from scstd.attributes import ConfigurationError
from scstd.handlers import memory
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.test.soak import alive
from scstd.test.stormclients import Client
from scstd.test.storming import (
    BLOCK,
    Calls,
    Reactor,
    Store,
    Thread,
    Wire,
    Work,
    check_at_rest,
    check_live,
    store_of,
)
from scstd.test.stormwords import CHANGES, WORDS, configuration
from twisted import logger

STEPS = 400
"""Things that happen in one storm before it calms down."""


class Storm:
    """
    One storm; *directory* is for its files.
    """

    def __init__(self, seed: int, directory: Path) -> None:
        self.rng = rng = random.Random(seed)
        self.directory = directory
        self.faults: list[str] = []
        self.calls = Calls(rng, failing=rng.choice((0, 0.05)))
        self.threads = Calls(rng, failing=rng.choice((0, 0, 0.05)))
        self.reactor = Reactor(self.calls)
        self.reactor.taken = {1002} if rng.random() < 0.3 else set()
        self.system = System(self.reactor, StateDirectory(directory / "state"))
        self.system.devices.lane = Thread(self.threads)
        self.tree = Tree(self.system)
        self.configurator = Configurator(self.tree)
        self.works: dict[bytes, Work] = {}
        self.stores: list[Store] = []
        self.clients: list[Client] = []
        self.pending: dict[Deferred[Any], str] = {}
        self.history: list[str] = []
        self.identities: dict[str, bytes] = {}
        self.wires = 0
        self.node: Any = None

    # What happens.

    def open(self, _reactor: Any, name: str, parameters: Any) -> Any:
        """Open a device, later."""

        def made() -> Store:
            store = Store(self.calls, self.works, self.faults, name, parameters["size"])
            self.stores.append(store)
            return store

        if parameters["size"] % BLOCK:
            raise ConfigurationError("no such size")
        return self.calls.wait("store", made, now=0.3)

    def track(self, name: str, done: Any) -> None:
        """Note something that has to end."""
        self.history.append(name)
        deferred = done if isinstance(done, Deferred) else Deferred.fromCoroutine(done)
        self.pending[deferred] = name
        deferred.addBoth(self._ended, deferred, name)

    def _ended(self, result: Any, deferred: Any, name: str) -> None:
        self.pending.pop(deferred)
        refused = isinstance(result, Failure)
        self.history.append(f"{name}: {result.value if refused else 'done'}")
        if refused and not result.check(ConfigurationError):
            self.faults.append(f"{name}: {result.getTraceback()}")

    def said(self) -> str:
        """Return the configuration, but for what initiators may change."""
        lines = render(self.system.configuration()).splitlines()
        return "\n".join(one for one in lines if not one.strip().startswith("state "))

    async def _watched(self, path: str, text: str) -> None:
        before = self.said()
        try:
            done = self.tree.do_write(path, text)
            if hasattr(done, "__await__"):
                await done
        except ConfigurationError as error:
            if self.said() != before:
                self.faults.append(f"{path}: {text} is refused ({error}), after\n{before}\nthere is\n{self.said()}")  # fmt: skip
            raise

    def change(self) -> None:
        """Write something somewhere."""
        system = self.system
        words = {name: self.rng.choice(some) for name, some in WORDS.items()}
        for name, there in (
            ("d", system.devices),
            ("t", system.drivers.targets),
            ("dg", system.device_groups),
        ):
            if there and self.rng.random() < 0.6:
                words[name] = self.rng.choice(list(there))
        path, text = (one.format(**words) for one in self.rng.choice(CHANGES))
        if path.endswith("resync_size") and path.split("/")[1] in self.system.devices:
            unit = self.system.devices[path.split("/")[1]].unit
            store_of(unit).actual = self.rng.choice((1 << 20, 2 << 20))
        if self.tree._patient(path):
            self.track(f"{path}: {text}", self.tree.write(path, text))
        else:
            done = self.tree.change(lambda: self._watched(path, text))
            self.track(f"{path}: {text}", done)

    def load(self) -> None:
        """Read a file, over what there is or in its place; or write one."""
        path, chance = self.directory / "scst.conf", self.rng.random()
        if chance < 0.1:
            self.track("clear", self.configurator.clear())
        elif chance < 0.2:
            saved = self.configurator.write(str(path))
            saved.addCallback(lambda where: read(Path(where).read_text(), "saved"))
            self.track("save", saved)
        else:
            path.write_text(configuration(self.rng))
            keep = self.rng.random() < 0.3
            done = self.configurator.reload(str(path), keep=keep)
            self.track(f"reload keep={keep}", done)

    def come(self) -> None:
        """Have an initiator log in."""
        if not self.reactor.ports or len(self.clients) > 6:
            return
        self.wires += 1
        wire = Wire(self.reactor, self.rng.choice(self.reactor.ports), self.wires)
        client = Client(self.node, wire, self.rng, self.faults)
        self.clients.append(client)
        client.begin_login(
            self.rng.choice(list(self.system.drivers.targets) or WORDS["t"])
        )
        self.history.append(f"{client.name} logs in to {client.target} ({self.wires})")

    def act(self) -> None:
        """Have an initiator do something."""
        if self.clients:
            self.rng.choice(self.clients).act(self.works)

    def go(self) -> None:
        """Let something that waits happen."""
        for calls in (self.calls, self.threads):
            for _one in range(self.rng.randint(0, 3)):
                if calls.waiting:
                    calls.go(ordered=calls is self.threads)

    def wait(self) -> None:
        """Let time pass."""
        self.reactor.advance(self.rng.choice((0, 0, 0, 0.1, 1)))

    # What has to be.

    def check(self) -> None:
        """
        :raises AssertionError: something is not as it has to be.
        """
        check_live(self.system, self.node)
        for client in list(self.clients):
            client.read()
            if client.over and client.wire.closed:
                self.clients.remove(client)
        assert not self.faults, "\n".join(self.faults)

    @property
    def calm(self) -> bool:
        """Whether nothing waits."""
        return not (self.pending or self.calls.waiting or self.threads.waiting)

    def settle(self, rounds: int = 400) -> None:
        """Let everything end."""
        self.calls.failing = self.threads.failing = 0
        for _round in range(rounds):
            if self.calm and not any(one.works for one in self.clients):
                return
            if not self.tree.closing:
                for name in list(self.system.devices):
                    self.tree.write(f"devices/{name}/block", "0")
                self.tree.write("suspend", "-1")
            for calls in (self.calls, self.threads):
                while calls.waiting:
                    calls.go(ordered=calls is self.threads)
            self.reactor.advance(0.5)
            for client in self.clients:
                client.behave()
            self.check()
        raise AssertionError(f"still there: {list(self.pending.values())}, {[one.works for one in self.clients]}")  # fmt: skip

    def blow(self, steps: int = STEPS) -> None:
        """
        Do all of it.

        :raises AssertionError: something goes wrong.
        """
        self.system.drivers.load(default={"iscsi": ["127.0.0.1:3260"]})
        driver: Any = self.system.drivers["iscsi"].instance
        self.node = driver.node
        self.node.failure_delay = 0.0
        (self.directory / "scst.conf").write_text(configuration(self.rng))
        path = str(self.directory / "scst.conf")
        self.track("reload", self.configurator.reload(path))
        kinds = (self.change, self.load, self.come, self.act, self.go, self.wait)
        for _step in range(steps):
            (kind,) = self.rng.choices(kinds, (8, 0.5, 2, 30, 16, 6))
            if kind in (self.change, self.load) and len(self.pending) > 4:
                continue
            kind()
            self.check()
            if self.rng.random() < 0.1 and not self.tree._turns.taken:
                check_at_rest(self.configurator, self.identities)
        if self.rng.random() < 0.5:
            self.settle()
            check_at_rest(self.configurator, self.identities)
        self.track("the end", self.tree.close())
        self.settle()
        self.check_nothing_left(driver)

    def check_nothing_left(self, driver: Any) -> None:
        """See that it has all ended."""
        self.reactor.advance(0)
        self.check()
        left = {
            "calls": self.reactor.getDelayedCalls(),
            "ports": self.reactor.ports,
            "held": self.system.watching.holds._held,
            "sessions": self.node.sessions(),
            "closing": self.node._closing,
            "connections": driver.factory.protocols,
            "stores": [one for one in self.stores if not one.closed],
            "works": [one for one in self.works.values() if not one.ended],
        }
        assert not any(left.values()), {name: one for name, one in left.items() if one}


@contextlib.contextmanager
def weather(seed: int) -> Iterator[Storm]:
    """
    Have a storm's surroundings: a directory, its stores, what is logged.
    """

    @implementer(logger.ILogObserver)
    def heard(event: logger.LogEvent) -> None:
        if (failure := event.get("log_failure")) is not None:
            said = f"{logger.formatEvent(event)} {failure.getTraceback()}"
            storm.faults.append(f"logged: {said}")

    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as held:
        storm = Storm(seed, Path(directory))
        held.enter_context(patch.object(memory, "open", storm.open))
        held.enter_context(patch.object(os, "fsync", lambda _file: None))
        logger.globalLogPublisher.addObserver(heard)
        held.callback(logger.globalLogPublisher.removeObserver, heard)
        yield storm
        gc.collect()
        assert not storm.faults, "\n".join(storm.faults)


def run(seed: int, steps: int = STEPS) -> None:
    """
    Blow one storm.

    :raises AssertionError: it is the storm's of this seed.
    """
    history: list[str] = []
    before = alive()
    try:
        with weather(seed) as storm:
            history = storm.history
            storm.blow(steps)
        del storm
        after = alive()
        assert after == before, (before, after)
    except Exception as error:
        last = "\n".join(history[-40:])
        said = f"{last}\n{traceback.format_exc()}\nseed {seed}"
        raise AssertionError(said) from error


def main() -> int:
    """
    Blow storms.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    # Else it keeps what is logged, for who comes later.
    logger.globalLogBeginner.beginLoggingTo(
        [], redirectStandardIO=False, discardBuffer=True
    )
    began = time.monotonic()
    for seed in range(options.first, options.first + options.seeds):
        try:
            run(seed, options.steps)
        except AssertionError as error:
            print(error)
            return 1
    print(f"{options.seeds} storms: {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
