# SPDX-License-Identifier: MIT
"""
The tree: everything there is, by path, in SCST's sysfs layout.

::

    handlers/HANDLER/{mgmt,type,DEVICE ->}
    devices/DEVICE/{handler ->,type,exported/,attributes...}
    targets/DRIVER/{mgmt,attributes...}
    targets/DRIVER/TARGET/{luns/,ini_groups/,sessions/,attributes...}
    device_groups/

Every face (scst.conf, the control socket and the tools on it, the console, SFTP) reads,
writes, lists and runs ``mgmt`` verbs here and has no logic of its own.  What changes
something is done one after the other, whoever asks.  What is refused is a
`ConfigurationError`, with an errno (`scstd.management.errors.number_of`).

What stands where is in `scstd.management.tree.objects`.
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred

from scstd.attributes import ConfigurationError
from scstd.block.checked import StoreFault
from scstd.management.errors import TreeError, number_of
from scstd.management.grammar import scst_dialect
from scstd.management.model.configuration import Configuration, DeviceConfiguration
from scstd.management.model.warnings import warn
from scstd.management.monitor.patience import CHANGE, Patience
from scstd.management.system import System
from scstd.management.tree.device_files import add_device
from scstd.management.tree.looking import Look, contents, look_at
from scstd.management.tree.mgmt import Mgmt
from scstd.management.tree.nodes import Directory, Entry, File, Link
from scstd.management.tree.objects import Objects
from scstd.scsi.mutex import Mutex

T = TypeVar("T")

_MAX_LINKS = 8
"""Links that one path may go through."""


@attrs.define(eq=False)
class Tree:
    """
    The tree of one running system.

    What is read is returned at once; where others have what is read, it is a Deferred
    (`scstd.workers.front_tree`), so faces wait for it (`scstd.results.settled`).
    """

    system: System
    objects: Objects = attrs.field(init=False)
    last_result: int = 0
    """The errno of what was changed last, 0 if it went well."""
    last_error: str = ""
    """What was said of it if it did not."""
    closing: bool = False
    """Whether nothing is changed any more."""
    _turns: Mutex = attrs.field(factory=Mutex)

    def __attrs_post_init__(self) -> None:
        self.objects = Objects(
            self.system, lambda: self.last_result, lambda: self.last_error
        )

    def entry(self, path: str, *, follow: bool = True) -> Entry:
        """
        Return what is at *path*; with *follow* not a link, but where it leads.

        :raises TreeError: nothing is (ENOENT, ENOTDIR).
        """
        return self._entry(path, follow, _MAX_LINKS)

    def _entry(self, path: str, follow: bool, links: int) -> Entry:
        found: Entry = self.objects.root()
        parts = [part for part in path.split("/") if part and part != "."]
        for at, part in enumerate(parts):
            if isinstance(found, Link):
                if not links:
                    raise TreeError(errno.ELOOP, f"{path}: too many links")
                found = self._entry(found.path, True, links - 1)
            if not isinstance(found, Directory):
                where = "/".join(parts[:at])
                raise TreeError(errno.ENOTDIR, f"{where} has no entries")
            try:
                found = found.find(part)
            except TreeError as error:
                where = "/".join(parts[:at]) or "the tree"
                raise TreeError(error.errno, f"{where}: {error}") from None
        if isinstance(found, Link) and follow:
            if not links:
                raise TreeError(errno.ELOOP, f"{path}: too many links")
            return self._entry(found.path, True, links - 1)
        return found

    def _file(self, path: str) -> File:
        found = self.entry(path)
        if not isinstance(found, File):
            raise TreeError(errno.EISDIR, f"{path} is a directory")
        return found

    def directory(self, path: str) -> Directory:
        """
        Return the directory at *path*.

        :raises TreeError: there is none.
        """
        found = self.entry(path)
        if not isinstance(found, Directory):
            raise TreeError(errno.ENOTDIR, f"{path} has no entries")
        return found

    def list(self, path: str) -> list[str]:
        """
        Return the names in a directory.
        """
        return self.directory(path).listing()

    def read(self, path: str, *, bare: bool = False) -> str:
        """
        Return what a file says; *bare*, with its secret.
        """
        file = self._file(path)
        try:
            return file.read(bare=bare)
        except TreeError as error:
            raise TreeError(error.errno, f"{path}: {error}") from None

    def values(self, path: str) -> dict[str, str]:
        """
        Return every attribute of an object by name, without ``[key]``; what can only be
        written is not there.
        """
        found: dict[str, str] = {}
        for name, entry in self.directory(path).entries():
            if isinstance(entry, File) and entry.reader is not None and name != "mgmt":
                found[name] = entry.read().removesuffix("[key]\n").removesuffix("\n")
        return found

    def dump(self, path: str, depth: int, only: Iterable[str] = ()) -> Any:
        """
        Return what is at *path*, and what is in it, so deep (`contents`).
        """
        return contents(self.entry(path), depth, frozenset(only))

    def look(self, path: str, *, follow: bool = True) -> Look:
        """
        Return what kind of entry is at *path*, and what can be done with it.
        """
        return look_at(self.entry(path, follow=follow))

    def looks(self, path: str) -> Iterable[tuple[str, Look]]:
        """
        Return what is in a directory, each entry looked at when its turn comes.
        """
        entries = self.directory(path).entries()
        return ((name, look_at(entry)) for name, entry in entries)

    def sessions(self) -> Sequence[tuple[Any, Mapping[str, Any]]]:
        """
        Return the sessions of every driver, each with what there is to say of it
        (`scstd.interfaces.ITargetDriverInstance.report`).
        """
        return [
            (session, driver.instance.report(session))
            for driver in self.system.drivers.values()
            for session in driver.instance.sessions()
        ]

    def end_session(self, session: Any, why: str) -> Any:
        """
        End one of `sessions`, if it is still there; return a value or a Deferred.
        """
        for driver in self.system.drivers.values():
            if session in driver.instance.sessions():
                return driver.instance.end_session(session, why)
        return None

    # What changes something.

    def write(self, path: str, text: str) -> Deferred[Any]:
        """
        Write to a file.
        """
        if self._patient(path):
            return Deferred.fromCoroutine(self._run(lambda: self.do_write(path, text)))
        return self.change(lambda: self.do_write(path, text))

    def _patient(self, path: str) -> bool:
        try:
            found = self.entry(path)
        except TreeError:
            return False
        return isinstance(found, File) and found.patient

    def manage(
        self,
        path: str,
        verb: str,
        words: Sequence[str] = (),
        pairs: Sequence[tuple[str, str]] = (),
    ) -> Deferred[Any]:
        """
        Run a verb of the ``mgmt`` file in the directory *path*.
        """
        return self.change(lambda: self.do_manage(path, verb, words, pairs))

    def change(self, call: Callable[[], Any]) -> Deferred[Any]:
        """
        Do something when nothing else is being changed.
        """
        return Deferred.fromCoroutine(self._change(call))

    async def _change(self, call: Callable[[], Any]) -> Any:
        await self._turns.acquire()
        try:
            return await self._run(call)
        finally:
            self._turns.release()

    def at_rest(self, call: Callable[[], T]) -> Deferred[T]:
        """
        Call something that changes nothing when nothing is being changed.
        """
        done: Deferred[T] = self._turns.run(self._open_for, call)
        return done

    def _open_for(self, call: Callable[[], T]) -> T:
        self.check_open()
        return call()

    async def _run(self, call: Callable[[], Any]) -> Any:
        try:
            self.check_open()
            done = call()
            result = await done if _later(done) else done
            self.last_result, self.last_error = 0, ""
        except ConfigurationError as error:
            self.last_result, self.last_error = number_of(error), str(error)
            if isinstance(error, TreeError):
                raise
            raise TreeError(self.last_result, str(error)) from error
        except OSError as error:
            # A store, or the state directory, would not.
            self.last_result = number_of(error)
            self.last_error = error.strerror or str(error)
            raise TreeError(self.last_result, self.last_error) from error
        except StoreFault as error:
            # It is in the log: whoever wanted something of the store is told, too.
            self.last_result, self.last_error = errno.EIO, str(error)
            raise TreeError(errno.EIO, str(error)) from error
        except BaseException as error:
            self.last_result, self.last_error = number_of(error), str(error)
            raise
        return result

    def check_open(self) -> None:
        """
        :raises TreeError: everything is about to end (ESHUTDOWN).
        """
        if self.closing:
            raise TreeError(errno.ESHUTDOWN, "the service stops")

    async def close(self, patience: Patience | None = None) -> None:
        """
        End everything, after what is being changed; nothing is changed any more.

        What is being changed may wait for sessions, commands, or time: these end first.
        It is not waited for longer than *patience* has it, nor is any store.
        """
        patience = patience or Patience(self.system.reactor)
        self.closing = True
        await self.system.stop(patience)
        self.system.tell_abandoned()
        turn = self._turns.acquire()
        await patience.within(
            CHANGE, turn, lambda: "the change of the configuration under way"
        )
        try:
            await self.system.close(patience)
        finally:
            turn.addCallback(lambda _: self._turns.release())

    # What a tree whose objects are in other processes has to know.

    async def begin(self, wanted: Configuration, *, keep_going: bool) -> Tree:
        """
        Return the tree that the steps of a start are taken at, which lead from nothing
        to *wanted*; *keep_going* as `scstd.management.config.applying` has it.
        """
        del wanted, keep_going
        return self

    async def expect(self, wanted: Configuration, *, back: bool = False) -> None:
        """
        Know where the steps lead that come; whether *back* to what was there.
        """
        del wanted, back

    async def fresh(self) -> None:
        """
        Know what has changed without anybody having changed it here.
        """

    # The same for who holds the lock: a plan under way.

    def do_write(self, path: str, text: str) -> Any:
        """
        Write to a file now.
        """
        left = scst_dialect.at(path)
        if left is not None and not self._writable(path):
            # What only SCST has, of an object that is there.
            self.directory(path.rpartition("/")[0])
            if not left.says_nothing(text.strip()):
                warn(f"{path} {text.strip()}: {left.warning()}")
            return None
        file = self._file(path)
        try:
            return file.write(text)
        except TreeError as error:
            raise TreeError(error.errno, f"{path}: {error}") from None

    def do_put(self, path: str, name: str, value: Any) -> Any:
        """
        Give an attribute of the object at *path* a value now: one that was parsed.
        """
        own = self.directory(path).attributes
        if own is None:
            raise TreeError(errno.ENOENT, f"{path} has no attributes")
        try:
            return own.set_value(name, value)
        except TreeError as error:
            where = f"{path}/{name}" if path else name
            raise TreeError(error.errno, f"{where}: {error}") from None

    def do_add_device(self, configuration: DeviceConfiguration) -> Any:
        """
        Open a device now, as it is configured.
        """
        return add_device(self.system, configuration)

    def do_add_missing(self, configuration: DeviceConfiguration, why: str) -> Any:
        """
        Have a device now without its store, which cannot be opened: *why*.
        """
        return self.system.devices.add_missing(configuration, why)

    def _writable(self, path: str) -> bool:
        try:
            return self._file(path).writable
        except TreeError:
            return False

    def do_manage(
        self,
        path: str,
        verb: str,
        words: Sequence[str] = (),
        pairs: Sequence[tuple[str, str]] = (),
    ) -> Any:
        """
        Run a verb now.
        """
        found = self.directory(path).fixed.get("mgmt")
        if not isinstance(found, Mgmt):
            raise TreeError(errno.ENOENT, f"{path} has no mgmt file")
        return found.run(verb, words, pairs)


def _later(done: Any) -> bool:
    return isinstance(done, Deferred) or inspect.isawaitable(done)
