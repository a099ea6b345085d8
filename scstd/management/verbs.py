# SPDX-License-Identifier: MIT
"""
What a person can say at the console: the tree, in few words, and the live objects.
"""

from __future__ import annotations

from typing import Any

import attrs

from scstd.attributes import ConfigurationError
from scstd.management.objects import walk
from scstd.management.tree import Tree
from scstd.scsi.sam import Task

_HELP = """\
ls()                 every object with attributes, by its path; ls("PATH"): its entries
get("PATH")          what an object's files say
set("PATH", "ATTRIBUTE", "VALUE")
                     of a drive, "filename" changes the disc ("" takes it out)
mgmt("PATH")         what its mgmt file takes; mgmt("PATH", "VERB ...") does it
sessions()           the sessions there are; close(SESSION) ends one
tasks()              the commands under way
devices, targets, drivers, system, tree: the live objects themselves"""


@attrs.define(eq=False)
class Verbs:
    """
    The verbs, over one tree.
    """

    tree: Tree

    def namespace(self) -> dict[str, Any]:
        """
        Return the names at the prompt.
        """
        system = self.tree.system
        return {
            "tree": self.tree,
            "system": system,
            "devices": system.devices,
            "targets": system.targets,
            "drivers": system.drivers,
            "sessions": self.sessions,
            "tasks": self.tasks,
            "ls": self.ls,
            "get": self.get,
            "set": self.set,
            "mgmt": self.mgmt,
            "close": self.close,
            "help": lambda: print(_HELP),  # noqa: T201
        }

    def sessions(self) -> list[Any]:
        """
        Return the sessions there are.
        """
        return self.tree.system.sessions()

    def tasks(self) -> list[Task]:
        """
        Return the commands under way.
        """
        return [
            task
            for device in self.tree.system.devices.values()
            for task in device.unit.tasks()
        ]

    def ls(self, path: str | None = None) -> list[str]:
        """
        Return the path of every object with attributes, or the entries at one path.
        """
        if path is None:
            return walk(self.tree.directory(""))
        return self.tree.list(path)

    def get(self, path: str) -> dict[str, str]:
        """
        Return what the files of the object at *path* say.
        """
        return self.tree.values(path)

    def set(self, path: str, attribute: str, value: object) -> Any:
        """
        Give an attribute another value.

        :raises ConfigurationError: no such object or attribute, a wrong value, or one
            that cannot be changed.
        """
        return _outcome(self.tree.write(f"{path}/{attribute}", str(value)))

    def mgmt(self, path: str, text: str | None = None) -> Any:
        """
        Print what a ``mgmt`` file takes, or write to it.
        """
        if text is None:
            print(self.tree.read(f"{path}/mgmt"))  # noqa: T201
            return None
        return _outcome(self.tree.write(f"{path}/mgmt", text))

    def close(self, session: Any) -> Any:
        """
        End a session: one of `sessions`, its number there, or its initiator's name.
        """
        found = self.sessions()
        if isinstance(session, int):
            chosen = found[session : session + 1]
        else:
            chosen = [one for one in found if session in {one, one.initiator}]
        if not chosen:
            raise ConfigurationError(f"no such session: {session!r}")
        for driver in self.tree.system.drivers.values():
            for one in set(chosen) & set(driver.instance.sessions()):
                driver.instance.end_session(one, "closed at the console")
        return None


def _outcome(done: Any) -> Any:
    """
    Return nothing for what is done, raise for what failed, else the Deferred.
    """
    failures: list[Any] = []
    if not done.called:
        return done
    done.addErrback(failures.append)
    if failures:
        failures[0].raiseException()
    return None
