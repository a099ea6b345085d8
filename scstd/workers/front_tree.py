# SPDX-License-Identifier: MIT
"""
Changing the tree in the front: whose it is has it done, and then it is done in the
mirror, which is what is configured (`scstd.workers.mirror`).

What belongs to all, attributes of the whole and of a driver, is told to everybody.
What is new gets somebody: by the placement of the configuration that is applied, else
who has least.  What ties things of two workers has one of their islands move first
(`scstd.workers.front_moves`).  How the two then agree is in
`scstd.workers.front_agreement`.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from scstd.attributes import ConfigurationError
from scstd.management.errors import TreeError
from scstd.management.model.attribute_tables import ROOT_ATTRIBUTES
from scstd.management.model.configuration import (
    Configuration,
    DeviceConfiguration,
    check_identities,
)
from scstd.management.model.device_attributes import UNIQUE
from scstd.management.monitor.events import Event
from scstd.management.ports.ports import others
from scstd.management.tree.mgmt import Mgmt
from scstd.management.tree.nodes import Directory, File
from scstd.management.tree.tree import Tree
from scstd.workers.front_agreement import Agreement, all_of, arrived
from scstd.workers.front_reads import IWorker
from scstd.workers.islands import (
    DEVICE,
    TARGET,
    About,
    Thing,
    about,
    island_of,
    part,
    place,
    thing_at,
)
from scstd.workers.mirror import mirrored

_log = Logger()

_EVERYBODYS = {"suspend"}
"""What all workers do, beside the attributes of the whole."""

_HERE = {"ACTIVITY_SUSPENDED", "ACTIVITY_RESUMED"}
"""Events that the front tells once of all workers."""

_DOWN = "its worker is not there"


@attrs.frozen
class _Asked:
    """
    What somebody wants of a ``mgmt`` file: its directory, verb and words, how a worker
    is told, and what does it *here*, where it is refused as in one process.
    """

    path: str
    verb: str
    words: Sequence[str]
    op: tuple[Any, ...]
    here: Callable[[], Any]


@attrs.define(eq=False)
class FrontTree(Agreement):
    """
    The tree of the front.
    """

    _wanted: Mapping[Thing, int] = attrs.field(factory=dict, init=False)
    _starting: Configuration | None = attrs.field(default=None, init=False)
    _before: Mapping[Thing, int] = attrs.field(factory=dict, init=False)

    # Starts, plans, and workers that come and go.

    async def begin(self, wanted: Configuration, *, keep_going: bool) -> Tree:
        """
        Have every worker open its part, all at once; the steps are then for the mirror.
        """
        del keep_going
        self._starting = wanted
        self.owners = place(wanted, {}, [one.number for one in self.workers])
        self.used = {one.name for one in wanted.devices}
        begun = [
            one.start(part(wanted, self.owners, one.number)) for one in self.workers
        ]
        await all_of(begun)
        return self._mirror

    async def expect(self, wanted: Configuration, *, back: bool = False) -> None:
        """
        Know who is to have what is new.
        """
        if not back:
            self._before = dict(self.owners)
        self._back = back
        workers = self.there or self.workers
        # What was given up meanwhile comes back to where it was.
        had = {**self._before, **self.owners} if back else self.owners
        self._wanted = place(wanted, had, [one.number for one in workers])

    async def _change(self, call: Callable[[], Any]) -> Any:
        def begun() -> Any:
            self._back, self._wanted = False, {}
            return call()

        return await super()._change(begun)

    async def fresh(self) -> None:
        """
        Ask what has changed by itself: sizes, media, access states.
        """
        self._starting = None
        for found in (await self.ask_all("facts")).values():
            await self._know(*found)

    def at_rest(self, call: Callable[[], Any]) -> Deferred[Any]:
        """
        Call something that changes nothing when nothing is being changed.
        """

        async def called() -> Any:
            self.check_open()
            await self.fresh()
            return call()

        return self._turns.run(lambda: Deferred.fromCoroutine(called()))

    def admit(self, worker: IWorker) -> Deferred[None]:
        """
        Have a worker that has come back have what is configured of its part.
        """
        return self._turns.run(lambda: Deferred.fromCoroutine(self._admit(worker)))

    async def _admit(self, worker: IWorker) -> None:
        await worker.start(
            part(self.system.configuration(), self.owners, worker.number)
        )
        if self.system.watching.suspended:
            await self.ask(worker, "do", ("write", "suspend", "0"))
        await self._know(*await self.ask(worker, "facts"))

    def lost(self, worker: IWorker) -> None:
        """
        Know that a worker has ended: its sessions are gone, its devices missing.
        """
        self.logged_in.lost(worker.number, self.system.events)
        devices, _groups = mirrored(self.system)
        mine = [x.name for x, at in self.owners.items() if at == worker.number]
        devices.lost(mine, _DOWN)

    def heard(self, worker: IWorker, event: Event) -> None:
        """
        Tell of what has happened in a worker.
        """
        if event.name in _HERE:
            return
        self.logged_in.heard(worker.number, event)
        self.system.events.relay(event)

    async def number(
        self, ours: Mapping[str, int | None], theirs: Mapping[str, int]
    ) -> dict[str, int]:
        """
        Return what `scstd.management.ports.ports.Ports.number` does for a worker's
        ports, among those of all.
        """
        found = self._starting or self.system.configuration()
        return await self.system.device_groups.ports.number(
            {**found.rel_tgt_ids(), **ours},
            {**dict(others(found.device_groups)), **theirs},
        )

    # What changes something.

    def do_write(self, path: str, text: str) -> Any:
        """Write to a file now, where it is."""
        return self._write(path, text)

    async def _write(self, path: str, text: str) -> Any:
        where = self.canonical(path)
        parent, _slash, name = where.rpartition("/")
        mgmt = self._mgmt(parent) if name == "mgmt" else None
        if mgmt is not None:
            return await self._written(path, parent, mgmt, text)
        worker, asked = self._found(path)
        if worker is None:
            return await self._write_to_all(where, text, path)
        if name in UNIQUE:
            self._see_unique(parent, name, text)
        own = self._configures(parent, name)
        known = own or self._entry_if_any(where) is not None

        async def mirror() -> None:
            if own:
                await self._mirror.do_write(where, text)
            elif not known:
                # It led by a link that only the worker has.
                await self.learn(worker)

        return await self._done([worker], ("write", asked, text), mirror)

    async def _write_to_all(self, where: str, text: str, path: str) -> Any:
        parent, _slash, name = where.rpartition("/")
        own = (not parent and name in {row.name for row in ROOT_ATTRIBUTES}) or (
            self._configures(parent, name) and not name.startswith("portal")
        )
        if where in _EVERYBODYS:
            return await self._suspend(where, text)
        if not own:
            return await arrived(super().do_write(path, text))
        return await self._done(
            self.there,
            ("write", where, text),
            lambda: self._mirror.do_write(where, text),
        )

    async def _suspend(self, where: str, text: str) -> Any:
        """
        Have all workers suspend activity or go on; if one cannot, no one does.
        """
        try:
            await all_of([self._do(one, ("write", where, text)) for one in self.there])
        except ConfigurationError:
            await all_of([self._do(one, ("write", where, "-1")) for one in self.there])
            raise
        return await arrived(super().do_write(where, text))

    def _see_unique(self, parent: str, name: str, text: str) -> None:
        """
        :raises ConfigurationError: a device of another worker has this name.
        """
        thing, _clean = thing_at(parent)
        if thing is not None and thing.kind == DEVICE and text.strip():
            self._check_unique(thing.name, name, text.strip())

    def _check_unique(self, device: str, name: str, value: Any) -> None:
        check_identities(
            attrs.evolve(
                one.configuration, values={**one.configuration.values, name: value}
            )
            if one.name == device
            else one.configuration
            for one in self.system.devices.values()
        )

    def do_put(self, path: str, name: str, value: Any) -> Any:
        """Give an attribute of an object another value now, where it is."""
        return self._put(path, name, value)

    async def _put(self, path: str, name: str, value: Any) -> Any:
        worker, asked = self._found(path)
        thing, _clean = thing_at(path)
        if worker is not None and thing is not None:
            if thing.kind == DEVICE and name in UNIQUE and value:
                self._check_unique(thing.name, name, value)
            told = [worker]
        elif name == "portal":
            told = []
        else:
            told, asked = self.there, path
        return await self._done(
            told,
            ("put", asked, name, value),
            lambda: self._mirror.do_put(path, name, value),
        )

    def do_add_device(self, configuration: DeviceConfiguration) -> Any:
        """Open a device now, at somebody's."""
        return self._make(
            Thing(DEVICE, configuration.name),
            ("add_device", configuration),
            lambda: self._mirror.do_add_device(configuration),
        )

    def do_add_missing(self, configuration: DeviceConfiguration, why: str) -> Any:
        """Have a device now that nobody can open."""
        return self._make(
            Thing(DEVICE, configuration.name),
            ("add_missing", configuration, why),
            lambda: self._mirror.do_add_missing(configuration, why),
        )

    def do_manage(
        self,
        path: str,
        verb: str,
        words: Sequence[str] = (),
        pairs: Sequence[tuple[str, str]] = (),
    ) -> Any:
        """Run a verb now, where it is to be run."""
        where = self.canonical(path)
        mgmt = self._mgmt(where)

        def here() -> Any:
            return super(FrontTree, self).do_manage(path, verb, words, pairs)

        if mgmt is None:
            return here()
        mgmt.verb(verb).check(words, pairs)
        name = mgmt.verb(verb).name
        op = ("manage", where, verb, list(words), list(pairs))
        return self._manage(
            _Asked(where, name, words, op, here),
            lambda: self._mirror.do_manage(where, verb, words, pairs),
        )

    async def _written(self, path: str, parent: str, mgmt: Mgmt, text: str) -> Any:
        """
        Run what is written to a ``mgmt`` file.
        """

        def here() -> Any:
            return super(FrontTree, self).do_write(path, text)

        try:
            verb, words, pairs = mgmt.taken(text)
            verb.check(words, pairs)
        except ConfigurationError:
            # Nobody can do that.
            return await arrived(here())
        worker = self.owner(parent)
        asked = path if worker is not None and self.owner(path) is worker else ""
        op = ("write", asked or f"{parent}/mgmt", text)
        return await self._manage(
            _Asked(parent, verb.name, words, op, here),
            lambda: self._mirror.do_write(path, text),
        )

    async def _manage(self, asked: _Asked, mirror: Callable[[], Any]) -> Any:
        words = asked.words
        what = about(asked.path, asked.verb, words)
        if what.thing is None:
            listens = bool(words) and words[0].rstrip("0123456789") == "portal"
            return await self._done([] if listens else self.there, asked.op, mirror)
        if what.made:
            return await self._make(what.thing, asked.op, mirror)
        worker = self.worker_of(what.thing)
        if worker is None or self._refuses(asked, what):
            # There is no such thing, or it would be refused wherever it is.
            return await arrived(asked.here())
        if what.tied is not None:
            await self._tie(what.thing, what.tied)
            worker = self.worker_of(what.thing)
            assert worker is not None
        done = await self._done([worker], asked.op, mirror)
        if what.tied is not None and what.tied.kind == DEVICE:
            self.used.add(what.tied.name)
        self._forget()
        return done

    def _mgmt(self, path: str) -> Mgmt | None:
        found = self._entry_if_any(path)
        mgmt = found.fixed.get("mgmt") if isinstance(found, Directory) else None
        return mgmt if isinstance(mgmt, Mgmt) else None

    def _configures(self, parent: str, name: str) -> bool:
        """
        Say whether a file is what is configured: what is done to others is done once.
        """
        found = self._entry_if_any(parent)
        if not isinstance(found, Directory) or found.attributes is None:
            return False
        return name in found.attributes.files() and isinstance(found.find(name), File)

    def _refuses(self, asked: _Asked, what: About) -> bool:
        """
        Say whether what ties things would be refused in one process: nothing is moved
        for that.
        """
        tied, system = what.tied, self.system
        if tied is None:
            return False
        if tied.kind == DEVICE and tied not in self.owners:
            return True
        if asked.path.endswith("/luns"):
            lun = asked.words[1]
            there = lun in self.directory(asked.path).listing()
            return not lun.isdigit() or there == (asked.verb == "add")
        if tied.kind == DEVICE:
            return system.devices[tied.name].unit.access is not None
        assert what.thing is not None
        group = system.device_groups.find(what.thing.name).devices
        return group.group_of(tied.name) is not None

    # What is new, and what is tied.

    async def _make(
        self,
        thing: Thing,
        op: tuple[Any, ...],
        mirror: Callable[[], Awaitable[Any]],
    ) -> Any:
        """
        Make something new: in the mirror first, which knows the names of all.
        """
        known = self.worker_of(thing)
        if known is not None:
            return await self._done([known], op, mirror)
        await mirror()
        try:
            now = self.system.configuration()
            at = self._wanted.get(thing)
            if at is None:
                # If none is there, the first one says so.
                numbers = [one.number for one in self.there or self.workers[:1]]
                at = place(now, self.owners, numbers)[thing]
            self.owners[thing] = at
            await self.join(island_of(now, thing))
            worker = self.workers[self.owners[thing]]
            await self._do(worker, op)
            if thing.kind == DEVICE and worker.link is not None:
                await self._refresh(worker)
                await self._see_alone(thing, worker)
        except BaseException:
            await self._unmake(thing)
            raise
        await self.spread([worker])
        return None

    async def _see_alone(self, thing: Thing, worker: IWorker) -> None:
        """
        :raises TreeError: a device of another worker has a name of this one, which is
            closed again.
        """
        devices, _groups = mirrored(self.system)
        mine = devices.facts.get(thing.name)
        for name, told in devices.facts.items():
            if mine is None or name == thing.name:
                continue
            shared = mine.identity.shared_with(told.identity)
            if shared:
                handler = devices[thing.name].handler
                gone: tuple[Any, ...] = (
                    "manage",
                    f"handlers/{handler}",
                    "del_device",
                    [thing.name],
                    [],
                )
                await self._do(worker, gone)
                raise TreeError(
                    errno.EINVAL,
                    f"device {thing.name}: its {shared} is that of device {name}: hosts"
                    " would take the two for one disk",
                )

    async def _unmake(self, thing: Thing) -> None:
        self.owners.pop(thing, None)
        system = self.system
        if thing.kind == DEVICE:
            await system.devices.remove(thing.name)
        elif thing.kind == TARGET:
            target = system.drivers.targets[thing.name]
            await system.remove_target(system.drivers.of(target).name, target.name)
        else:
            system.device_groups.remove(thing.name)

    async def _tie(self, one: Thing, other: Thing) -> None:
        """
        Have two things in one worker.
        """
        now = self.system.configuration()
        tied = {
            **dict.fromkeys(island_of(now, one)),
            **dict.fromkeys(island_of(now, other)),
        }
        if other in self.owners:
            await self.join(tuple(tied))
