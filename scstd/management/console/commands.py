# SPDX-License-Identifier: MIT
"""
What a person can say at the console: the tree, in few words, and the live objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from scstd.attributes import ConfigurationError
from scstd.management.console.tables import Live, Rows, TaskWatch, Values, state_of
from scstd.management.errors import TreeError
from scstd.management.model.trace_level import TOKENS
from scstd.management.tree.nodes import Directory, Link
from scstd.management.tree.objects import walk
from scstd.management.tree.tree import Tree
from scstd.scsi.sam import Task

_HELP = (
    ("ls", "ls()", "every object with attributes, by its path"),
    ("ls", 'ls("PATH")', "the entries of a directory"),
    ("get", 'get("PATH")', "what an object's files say"),
    ("set", 'set("PATH", "ATTRIBUTE", "VALUE")', "give an attribute another value"),
    ("mgmt", 'mgmt("PATH")', "what a mgmt file takes"),
    ("mgmt", 'mgmt("PATH", "VERB ...")', "do it"),
    ("sessions", "sessions()", "who is logged in"),
    ("close", "close(NUMBER)", "end a session: its number there, or its initiator"),
    ("luns", "luns()", "which device is at which LUN"),
    ("tasks", "tasks()", "the commands under way, and for how long"),
    ("trace", "trace()", "what the trace can say, and what it says now"),
    ("trace", 'trace("add TOKEN")', "have the trace say more (trace_level)"),
    ("follow", "follow()", "show here what happens, and the trace, as it comes"),
    ("follow", 'follow("NAME", ...)', "these events alone; follow(False) ends it"),
    ("help", "help()", "this; TAB finishes names, and paths in quotes"),
    ("help", "help(VERB)", "what is here of one verb"),
    ("devices", "devices, targets, drivers", "the live objects, by name"),
    ("system", "system, tree", "all of it"),
)
"""Names, how they are written, and what comes of it."""


@attrs.frozen(repr=False)
class Word:
    """
    A verb as it stands at the prompt: without parentheses it says what it does.
    """

    name: str
    call: Callable[..., Any]

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Do it."""
        return self.call(*given, **named)

    def __repr__(self) -> str:
        """Return how it is written."""
        return "\n".join(
            f"{usage}  {text}" for name, usage, text in _HELP if name == self.name
        )


@attrs.frozen
class LunRow:
    """
    One line of `Verbs.luns`: *group* is "" for a target's default map.
    """

    target: str
    group: str
    lun: int
    device: Any
    read_only: bool


@attrs.define(eq=False)
class Verbs:
    """
    The verbs, over one tree.
    """

    tree: Tree
    watch: TaskWatch = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.watch = TaskWatch(self.tree.system)

    def namespace(self) -> dict[str, Any]:
        """
        Return the names at the prompt.
        """
        system = self.tree.system
        objects: dict[str, Any] = {
            "tree": self.tree,
            "system": system,
            "devices": system.devices,
            "targets": system.drivers.targets,
            "drivers": system.drivers,
        }
        verbs: tuple[Callable[..., Any], ...] = (
            self.ls,
            self.get,
            self.set,
            self.mgmt,
            self.sessions,
            self.close,
            self.luns,
            self.tasks,
            self.trace,
            self.follow,
            self.help,
        )
        words = {verb.__name__: Word(verb.__name__, verb) for verb in verbs}
        return objects | words

    def help(self, what: object = None) -> None:
        """
        Print a line for each verb, or those of one.
        """
        wanted = getattr(what, "name", what)
        lines = [one for one in _HELP if wanted is None or one[0] == wanted]
        if not lines:
            raise ConfigurationError(f"there is no help for {what!r}: help() is all")
        width = max(len(usage) for _name, usage, _help in lines)
        for _name, usage, text in lines:
            print(f"{usage.ljust(width)}  {text}")  # noqa: T201

    def trace(self, text: str | None = None) -> Any:
        """
        Print what the trace can say and whether it does; or change its level.

        :raises ConfigurationError: there is no such token.
        """
        if text is not None:
            return _outcome(self.tree.write("trace_level", text))
        level = self.tree.system.values["trace_level"]
        for name, (bit, what) in TOKENS.items():
            if what:
                on = "on " if level & bit else "off"
                print(f"{on}  {name.ljust(12)}  {what}")  # noqa: T201
        return None

    def follow(self, *names: Any) -> Live:
        """
        Return what the prompt shows as it comes: events of these names, or all, and the
        trace; with False alone, nothing any more.
        """
        system = self.tree.system
        return Live(system.reactor, system.events, names, over=names == (False,))

    def paths(self, path: str) -> list[str]:
        """
        Return the names in a directory, those of directories with a slash; none where
        there is no directory.
        """
        try:
            entries = list(self.tree.directory(path).entries())
        except TreeError:
            return []
        return [
            f"{name}/" if isinstance(entry, Directory | Link) else name
            for name, entry in entries
        ]

    def sessions(self) -> Any:
        """
        Return the sessions there are.
        """
        return _then(self.tree.sessions(), self._sessions)

    @staticmethod
    def _sessions(found: Sequence[tuple[Any, Any]]) -> Rows:
        told = dict(found)
        names = ("ip", "commands", "active_commands", "state")
        return Rows(
            told,
            ("initiator", "target", "ip", "commands", "active", "state"),
            lambda one: (
                one.initiator,
                one.nexus.target.qualified_name,
                *(told[one].get(name) for name in names),
            ),
        )

    def luns(self) -> Rows:
        """
        Return each entry of each LUN map.
        """
        system = self.tree.system
        rows = [
            LunRow(target.qualified_name, group, lun, entry.unit, entry.read_only)
            for target in system.drivers.targets.values()
            for group, luns in (
                ("", target.luns),
                *((one.name, one.luns) for one in target.groups),
            )
            for lun, entry in sorted(luns.items())
        ]
        return Rows(
            rows,
            ("target", "group", "lun", "device", "bytes", ""),
            lambda row: (
                row.target,
                row.group,
                row.lun,
                row.device.name,
                system.devices.bytes_of(row.device.name),
                "read-only" if row.read_only else "",
            ),
        )

    def tasks(self) -> Rows:
        """
        Return the commands under way.
        """

        def row(task: Task) -> tuple[object, ...]:
            itl = task.itl
            named = task.cdb.hex() if task.row is None else task.row.name
            return (
                itl.unit.name,
                itl.lun,
                "" if task.internal else itl.nexus.initiator,
                named,
                task.lba if task.blocks else "",
                task.blocks or "",
                state_of(task),
                f"{self.watch.seconds(task):.1f}",
            )

        return Rows(
            self.watch.look(),
            (
                "device",
                "lun",
                "initiator",
                "command",
                "lba",
                "blocks",
                "state",
                "seconds",
            ),
            row,
        )

    def ls(self, path: str | None = None) -> Any:
        """
        Return the path of every object with attributes, or the entries at one path.
        """
        if path is None:
            return walk(self.tree.directory(""))
        return self.tree.list(path)

    def get(self, path: str) -> Any:
        """
        Return what the files of the object at *path* say.
        """
        return _then(self.tree.values(path), Values)

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
            return _then(self.tree.read(f"{path}/mgmt"), print)
        return _outcome(self.tree.write(f"{path}/mgmt", text))

    def close(self, session: Any) -> Any:
        """
        End a session: one of `sessions`, its number there, or its initiator's name.
        """
        return _then(self.sessions(), lambda found: self._close(found, session))

    def _close(self, found: Rows, session: Any) -> None:
        if isinstance(session, int):
            chosen = found[session : session + 1]
        else:
            chosen = [one for one in found if session in {one, one.initiator}]
        if not chosen:
            raise ConfigurationError(f"no such session: {session!r}")
        for one in chosen:
            self.tree.end_session(one, "closed at the console")


def _then(result: Any, call: Callable[[Any], Any]) -> Any:
    """
    Return what becomes of a result: a Deferred of one that is.
    """
    if isinstance(result, Deferred):
        return result.addCallback(call)
    return call(result)


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
