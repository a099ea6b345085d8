# SPDX-License-Identifier: MIT
"""
A front and its workers in one process, for tests of the tree: real links, real systems,
the reactor of the test.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from scstd.management.config.applying import Configurator
from scstd.management.model.configuration import Configuration
from scstd.management.ports.drivers import Drivers
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.workers.answering import Answers, ask_for_numbers
from scstd.workers.front_tree import FrontTree
from scstd.workers.link import Link, attach
from scstd.workers.mirror import mirror


class Silent(Drivers):
    """
    Target drivers that do not listen, as a worker's do not.
    """

    async def listen(self, driver: Any) -> None:
        """Do nothing."""


class Worker:
    """
    A worker, its system and both ends of its link.
    """

    def __init__(self, reactor: Any, number: int, state: Path) -> None:
        self.number = number
        self.pid = 1000 + number
        self.link: Link | None = None
        self.front: FrontTree | None = None
        self.reactor = reactor
        self.state = state
        self.begin()

    def begin(self) -> None:
        """Have a new process, as it were."""
        self.system = System(self.reactor, StateDirectory(self.state), drivers=Silent)
        self.system.events.listeners[:] = [self._happened]
        self.tree = Tree(self.system)
        self.configurator = Configurator(self.tree)
        here, there = socket.socketpair()
        self.end = Link(
            {
                **Answers(lambda: self.tree).named(),
                "start": self._start,
                "apply": lambda wanted, keep_going: self.configurator.apply(
                    wanted, keep_going=keep_going
                ).addCallback(lambda _steps: None),
                "do": self._do,
            }
        )
        link = Link(
            {
                "event": lambda event: self._front().heard(self, event),
                "number": lambda *claims: self._front().number(*claims),
            },
            self._gone,
        )
        attach(self.reactor, here, self.end)
        attach(self.reactor, there, link)
        ask_for_numbers(
            self.tree, lambda ours, theirs: self.end.call("number", ours, theirs)
        )
        self.link = link

    def _front(self) -> FrontTree:
        assert self.front is not None
        return self.front

    def _happened(self, event: Any) -> None:
        self.end.tell("event", event)

    def _gone(self, _why: str) -> None:
        self.link = None
        self._front().lost(self)

    async def _start(self, configuration: Configuration) -> None:
        await self.configurator.start(configuration)

    async def _do(self, change: tuple[Any, ...]) -> None:
        verb, *given = change
        if verb == "write":
            await self.tree.write(*given)
        else:
            await self.tree.change(lambda: getattr(self.tree, f"do_{verb}")(*given))

    def start(self, configuration: Configuration) -> Deferred[None]:
        """Have it open its part."""
        assert self.link is not None
        return self.link.call("start", configuration)

    async def die(self) -> None:
        """Be gone, as if killed: what is open is closed by the kernel."""
        if self.link is not None:
            self.link.abort()
            self.end.abort()
        await self.tree.close()

    async def come_back(self) -> None:
        """Be another process, and be let in."""
        self.begin()
        await self._front().admit(self)


async def front(
    case: TestCase, configuration: Configuration, workers: int = 2
) -> tuple[FrontTree, list[Worker]]:
    """
    Return a front's tree and its workers, until the end of a test.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - as everywhere

    state = Path(case.mktemp())
    state.mkdir()
    made = [Worker(reactor, number, state) for number in range(workers)]
    tree = FrontTree(mirror(reactor, StateDirectory(state)), workers=made)

    async def over() -> None:
        for one in made:
            await one.die()
        await tree.close()

    for one in made:
        one.front = tree
    case.addCleanup(lambda: Deferred.fromCoroutine(over()))
    await Configurator(tree).start(
        configuration, {"iscsi": ["tcp:0:interface=127.0.0.1"]}
    )
    return tree, made


def homes(tree: FrontTree) -> Mapping[str, int]:
    """
    Return who has what, by names.
    """
    return {one.name: number for one, number in tree.owners.items()}
