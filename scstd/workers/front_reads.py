# SPDX-License-Identifier: MIT
"""
Reading the tree in the front: whose it is, is asked; what is everybody's, is put
together.

What the mirror knows as well as a worker (which names there are, what handlers and
drivers say) is read there.  What is below a device, a target or a device group is asked
of the worker that has it.  While one is not there its objects are still listed, and
what is configured of them is still told, but nothing else.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ConnectionClosed

from scstd.attributes import ConfigurationError
from scstd.management.errors import TreeError
from scstd.management.model.configuration import Configuration
from scstd.management.tree.looking import Look, contents
from scstd.management.tree.nodes import Directory, Entry, File, Link
from scstd.management.tree.objects import Objects
from scstd.management.tree.tree import Tree
from scstd.scsi.target import Target
from scstd.workers.facts import Session
from scstd.workers.front_sessions import LoggedIn
from scstd.workers.islands import DEVICE, GROUP, TARGET, Thing, thing_at
from scstd.workers.link import Link as WorkerLink
from scstd.workers.link import RemoteFault


class IWorker(Protocol):
    """
    A worker as the tree knows it.
    """

    number: int
    link: WorkerLink | None
    """None while it is not there: its objects are configured, and nobody has them."""

    @property
    def pid(self) -> int:
        """Its process, 0 while there is none."""

    def start(self, configuration: Configuration) -> Deferred[None]:
        """
        Have it open its part, before anything else is asked of it.
        """


def _lines(own: str, others: Sequence[str]) -> str:
    return "\n".join(one.rstrip("\n") for one in (own, *others) if one.strip())


def _any(own: str, others: Sequence[str]) -> str:
    return "1" if any(one.strip() == "1" for one in (own, *others)) else "0"


def _count(own: str, others: Sequence[str]) -> str:
    *wanted, there = own.split("\n", 1)
    count = int(there.split()[0]) + sum(int(one.split()[0]) for one in others)
    return "\n".join([*wanted, f"{count} in use" if wanted else str(count)])


SUMS: Mapping[str, Callable[[str, Sequence[str]], str]] = {
    "trace_cmds": _lines,
    "trace_mcmds": _lines,
    "suspend": _any,
    "threads": _count,
}
"""Files of the root that are put together: of the front's text, and the workers'."""


@attrs.frozen
class _Nexus:
    target: Target


@attrs.frozen(eq=False)
class FarSession:
    """
    A session of a worker, with what the console wants of any session.
    """

    initiator: str
    nexus: _Nexus
    path: str
    """Where it is in the tree."""


@attrs.define(eq=False)
class _FrontObjects(Objects):
    processes: Callable[[], Directory] = Directory

    def root(self) -> Directory:
        """Return the top, with the workers."""
        found = super().root()
        # ``workers`` is an attribute: how many there are to be.
        fixed = {**found.fixed, "processes": self.processes()}
        return attrs.evolve(found, fixed=fixed)


@attrs.define(eq=False)
class FrontReads(Tree):
    """
    The tree as it is read in the front; *owners* says which worker has what.
    """

    workers: Sequence[IWorker] = attrs.field(factory=list, kw_only=True)
    owners: dict[Thing, int] = attrs.field(factory=dict, init=False)
    logged_in: LoggedIn = attrs.field(factory=LoggedIn, init=False)

    def __attrs_post_init__(self) -> None:
        self.objects = _FrontObjects(
            self.system,
            lambda: self.last_result,
            lambda: self.last_error,
            self._processes,
        )

    # Who has what.

    def canonical(self, path: str, *, follow: bool = True) -> str:
        """
        Return a path without the links that the mirror knows of, but at its end if it
        is not to *follow* it; what is not known here stays as it is.
        """
        where: list[str] = []
        found: Entry | None = self.objects.root()
        for part in (one for one in path.split("/") if one not in {"", "."}):
            if isinstance(found, Link):
                where = found.path.split("/")
                found = self._entry_if_any(found.path)
            if isinstance(found, Directory):
                try:
                    found = found.find(part)
                except (LookupError, ConfigurationError):
                    found = None
            else:
                found = None
            where.append(part)
        if follow and isinstance(found, Link):
            return self.canonical(found.path)
        return "/".join(where)

    def _entry_if_any(self, path: str) -> Entry | None:
        try:
            return self.entry(path)
        except (LookupError, ConfigurationError):
            return None

    def owner(self, path: str) -> IWorker | None:
        """
        Return the worker that has what is at a path without links; None: it is nobody's
        alone, or not there.
        """
        thing, _clean = thing_at(path)
        return self.worker_of(thing)

    def worker_of(self, thing: Thing | None) -> IWorker | None:
        """
        Return the worker that has something.
        """
        if thing is None or thing not in self.owners:
            return None
        return self.workers[self.owners[thing]]

    def _found(self, path: str, *, follow: bool = True) -> tuple[IWorker | None, str]:
        """
        Return who has what is at a path, and how it is to be asked for: as it was said,
        if that worker finds it so.
        """
        where = self.canonical(path, follow=follow)
        worker = self.owner(where)
        if worker is not None and self.owner(path) is worker:
            return worker, path
        return worker, where

    @property
    def there(self) -> list[IWorker]:
        """The workers that are there."""
        return [one for one in self.workers if one.link is not None]

    def ask(self, worker: IWorker, name: str, *given: Any) -> Deferred[Any]:
        """
        Have a worker answer something.

        :raises TreeError: by the Deferred: it is not there (EAGAIN), or has ended
            meanwhile, or failed (EIO).
        """
        return Deferred.fromCoroutine(self._ask(worker, name, given))

    async def _ask(self, worker: IWorker, name: str, given: Sequence[Any]) -> Any:
        if worker.link is None:
            raise TreeError(errno.EAGAIN, f"worker {worker.number} is not there")
        try:
            return await worker.link.call(name, *given)
        except ConnectionClosed:
            raise TreeError(errno.EIO, f"worker {worker.number} has ended") from None
        except RemoteFault as error:
            raise TreeError(errno.EIO, f"worker {worker.number}: {error}") from error

    async def ask_all(self, name: str, *given: Any) -> dict[int, Any]:
        """
        Return what the workers answer that are there and do, by their numbers.
        """
        there = self.there
        asked = [self.ask(one, name, *given) for one in there]
        answers = await DeferredList(asked, consumeErrors=True)
        return {
            one.number: answer
            for one, (done, answer) in zip(there, answers, strict=True)
            if done
        }

    # Reading.

    def read(self, path: str, *, bare: bool = False) -> Any:
        """Return a Result: what a file says."""
        worker, where = self._found(path)
        if worker is not None:
            return self.ask(worker, "read", where, bare)
        if where in SUMS:
            return Deferred.fromCoroutine(self._summed(where))
        return super().read(path, bare=bare)

    async def _summed(self, where: str) -> str:
        found = await self.ask_all("read", where, False)
        text = SUMS[where](super().read(where).removesuffix("\n"), [*found.values()])
        return text + "\n"

    def list(self, path: str) -> Any:
        """Return a Result: the names in a directory."""
        worker, where = self._found(path)
        if worker is not None and worker.link is not None:
            return self.ask(worker, "list", where)
        return super().list(path)

    def values(self, path: str) -> Any:
        """Return a Result: every attribute of an object by name."""
        worker, where = self._found(path)
        if worker is not None:
            return self.ask(worker, "values", where)
        if where:
            return super().values(path)
        return Deferred.fromCoroutine(self._root_values())

    async def _root_values(self) -> dict[str, str]:
        found = super().values("")
        for name in found.keys() & SUMS.keys():
            found[name] = (await self._summed(name)).removesuffix("\n")
        return found

    def look(self, path: str, *, follow: bool = True) -> Any:
        """Return a Result: what kind of entry is at a path."""
        worker, where = self._found(path, follow=follow)
        if worker is not None and worker.link is not None:
            return self.ask(worker, "look", where, follow)
        return super().look(path, follow=follow)

    def looks(self, path: str) -> Any:
        """Return a Result: what is in a directory."""
        worker, where = self._found(path)
        if worker is not None and worker.link is not None:
            return self.ask(worker, "looks", where)
        if where:
            return super().looks(path)
        return Deferred.fromCoroutine(self._root_looks())

    async def _root_looks(self) -> Sequence[tuple[str, Look]]:
        found = dict(super().looks(""))
        for name in found.keys() & SUMS.keys():
            text = await self._summed(name)
            found[name] = attrs.evolve(found[name], size=len(text.encode()))
        return [*found.items()]

    def dump(self, path: str, depth: int, only: Iterable[str] = ()) -> Any:
        """Return a Result: what is at a path and below it."""
        names = tuple(only)
        worker, where = self._found(path)
        if worker is not None and worker.link is not None:
            return self.ask(worker, "dump", where, depth, names)
        return Deferred.fromCoroutine(self._dump(where, depth, frozenset(names)))

    async def _dump(self, where: str, depth: int, only: frozenset[str]) -> Any:
        entry = self.entry(where)
        found = await self.ask_all("dump", where, depth, tuple(only))
        return self._assembled(entry, where, depth, only, found)

    def _assembled(
        self,
        entry: Entry,
        where: str,
        depth: int,
        only: frozenset[str],
        found: Mapping[int, Any],
    ) -> Any:
        """
        Return what is to be told of an entry of the mirror, with what workers have
        *found* at the same place.
        """
        worker = self.owner(where)
        if worker is not None and not isinstance(entry, Link):
            if worker.number in found:
                return found[worker.number]
            return _configured(entry, depth, only)
        if where in SUMS and isinstance(entry, File):
            own = entry.read().removesuffix("\n")
            others = [one for one in found.values() if isinstance(one, str)]
            return SUMS[where](own, others).removesuffix("\n")
        if not isinstance(entry, Directory) or depth < 0:
            return contents(entry, depth, only)
        return {
            name: self._assembled(
                one,
                f"{where}/{name}" if where else name,
                depth - 1,
                only,
                {
                    number: each[name]
                    for number, each in found.items()
                    if isinstance(each, dict) and name in each
                },
            )
            for name, one in entry.entries()
            if name != "mgmt"
            and (not only or name in only or isinstance(one, Directory))
        }

    # Sessions.

    def sessions(self) -> Any:
        """Return a Result: the sessions of all."""
        return Deferred.fromCoroutine(self._sessions())

    async def _sessions(self) -> Sequence[tuple[Any, Mapping[str, Any]]]:
        found: Any = [*super().sessions()]
        targets = self.system.drivers.targets
        for told in (await self.ask_all("sessions")).values():
            each: Session
            for each in told:
                if each.target in targets:
                    nexus = _Nexus(targets[each.target])
                    far = FarSession(each.initiator, nexus, each.path)
                    found.append((far, each.report))
        return found  # type: ignore[no-any-return]

    def end_session(self, session: Any, why: str) -> Any:
        """End one of them, if it is still there."""
        if isinstance(session, FarSession):
            return self.write(f"{session.path}/force_close", "1")
        return super().end_session(session, why)

    # The workers.

    def _processes(self) -> Directory:
        return Directory(
            names=lambda: [str(one.number) for one in self.workers],
            make=lambda name: self._worker(self.workers[int(name)]),
        )

    def _worker(self, worker: IWorker) -> Directory:
        def names(kind: str) -> File:
            found = (one for one, number in self.owners.items() if number == at)
            return File(lambda: "\n".join(x.name for x in found if x.kind == kind))

        at = worker.number
        return Directory(
            {
                "pid": File(lambda: str(worker.pid)),
                "state": File(lambda: "down" if worker.link is None else "up"),
                "targets": names(TARGET),
                "devices": names(DEVICE),
                "device_groups": names(GROUP),
                "sessions": File(lambda: str(self.logged_in.count(at))),
            }
        )


def _configured(entry: Entry, depth: int, only: frozenset[str]) -> Any:
    """
    Return what is configured of an object that nobody has just now.
    """
    if not isinstance(entry, Directory):
        return contents(entry, depth, only)
    if depth < 0:
        return {}
    own = {} if entry.attributes is None else entry.attributes.listed()
    return {
        name: _configured(one, depth - 1, only)
        for name, one in entry.entries()
        if isinstance(one, Directory)
        or ((name in own or isinstance(one, Link)) and (not only or name in only))
    }
