# SPDX-License-Identifier: MIT
"""
What a worker answers when the front asks for its part of the tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from scstd.management.model.configuration import Configuration
from scstd.management.tree.looking import Look
from scstd.management.tree.session_files import session_names
from scstd.management.tree.tree import Tree
from scstd.workers.facts import DeviceFacts, Session, States, facts
from scstd.workers.numbers import Ask, WorkerPorts


def ask_for_numbers(tree: Tree, ask: Ask) -> None:
    """
    Have the front give out the numbers of a worker's ports: before anything is there.
    """
    groups = tree.system.device_groups
    ports = groups.ports
    groups.ports = WorkerPorts(ports.directory, ports.call, ask=ask)


@attrs.frozen
class Answers:
    """
    The functions by name (`named`); *tree* returns the worker's tree.
    """

    tree: Callable[[], Tree]

    def named(self) -> Mapping[str, Callable[..., Any]]:
        """
        Return them.
        """
        return {
            "read": self.read,
            "list": self.list,
            "values": self.values,
            "dump": self.dump,
            "look": self.look,
            "looks": self.looks,
            "sessions": self.sessions,
            "facts": self.facts,
            "configuration": self.configuration,
            "numbers": self.numbers,
        }

    def read(self, path: str, bare: bool) -> str:
        """Return what a file says (`Tree.read`)."""
        return self.tree().read(path, bare=bare)

    def list(self, path: str) -> Any:
        """Return the names in a directory."""
        return self.tree().list(path)

    def values(self, path: str) -> dict[str, str]:
        """Return every attribute of an object."""
        return self.tree().values(path)

    def dump(self, path: str, depth: int, only: Iterable[str]) -> Any:
        """Return what is at a path and below it."""
        return self.tree().dump(path, depth, only)

    def look(self, path: str, follow: bool) -> Look:
        """Return what kind of entry is at a path."""
        return self.tree().look(path, follow=follow)

    def looks(self, path: str) -> Any:
        """Return what is in a directory."""
        return [*self.tree().looks(path)]

    def sessions(self, targets: Iterable[str] | None = None) -> Any:
        """
        Return who is logged in at *targets*, by their qualified names, or at all.
        """
        wanted = None if targets is None else frozenset(targets)
        found = []
        for driver in self.tree().system.drivers.values():
            for target in driver.targets.values():
                if wanted is not None and target.qualified_name not in wanted:
                    continue
                where = f"targets/{driver.name}/{target.name}/sessions"
                named = session_names(driver.instance, target)
                found += [
                    Session(
                        one.initiator,
                        target.qualified_name,
                        f"{where}/{name}",
                        dict(driver.instance.report(one)),
                    )
                    for name, one in named.items()
                ]
        return found

    def facts(self) -> tuple[dict[str, DeviceFacts], States]:
        """Return what is known beside what is configured."""
        return facts(self.tree().system)

    def configuration(self) -> Configuration:
        """Return what is configured here."""
        return self.tree().system.configuration()

    async def numbers(self, numbers: Mapping[str, int]) -> None:
        """Have ports be known by these numbers from now on."""
        groups = self.tree().system.device_groups
        assert isinstance(groups.ports, WorkerPorts)
        groups.ports.known = dict(numbers)
        await groups.number({})
