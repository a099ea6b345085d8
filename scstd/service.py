# SPDX-License-Identifier: MIT
"""
The service: the system, its control socket, the console, and the command of ``--run``.

They start in this order and stop in reverse.  It is a Twisted service like others, for
any reactor and any process: what cannot start is a Deferred that fails
(`SystemService.whenStarted`); signals and the end of the process are nobody's business
here, but that of the ``twistd`` command (`scstd.twistd`).
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.management.config.applying import Configurator
from scstd.management.control.control import listen
from scstd.management.model.attribute_tables import WORKERS
from scstd.management.model.configuration import Configuration
from scstd.management.model.portals import listening
from scstd.management.model.warnings import heard
from scstd.management.monitor.events import Event
from scstd.management.monitor.logs import Levels
from scstd.management.monitor.patience import CHANGE, Patience
from scstd.management.paths import default_socket
from scstd.management.state.orphans import orphans
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.process.heartbeat import Heartbeat
from scstd.process.run_command import GRACE, RunCommand
from scstd.process.service_manager import Notifier

_log = Logger()

ENDS = 3 * GRACE + 1.0
"""Seconds for the command of ``--run`` to be gone, which bounds that itself."""

ORPHANS = 20.0
"""Seconds that a start waits for workers that are left of another process."""

_LOOK = 0.1

_CHANGES = {
    "REG_VIRT_DEV",
    "DEVICE_CLOSED",
    "DEVICE_MISSING",
    "DEVICE_OPENED",
    "CONFIGURATION_APPLIED",
    "WORKER_STARTED",
    "WORKER_DIED",
}
"""Events after which the service manager is told anew what is served."""


@attrs.frozen
class Settings:
    """
    What is to run.
    """

    configuration: Configuration
    listen: Mapping[str, Sequence[str]]
    """
    The portals of the command line by target driver, which take the place of those that
    are configured.
    """
    state: StateDirectory
    default: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    """Where to listen when there are neither."""
    config: str | None = None
    """The file that is read again at a reload."""
    control: str | None = None
    """The path of the control socket ("": none)."""
    run: str | None = None
    """The command to run when everything is served."""
    manhole: str | None = None
    """Where the console listens, as an endpoint string."""
    manhole_keys: str | None = None
    """The file of the keys that are let in to it."""
    levels: Levels = attrs.field(factory=Levels)
    log_format: str = "text"
    temporary: bool = False
    """Whether the state directory was made for this run: it is removed at the end."""
    keep_going: bool = False
    """What cannot be opened is missing, and the others are served."""
    workers: int = 0
    """Processes that have the devices and sessions; 0: this one."""


def make_service(settings: Settings, reactor: Any = None) -> MultiService:
    """
    Return a service with the `SystemService` of *settings* in it, for a process that
    has other things to do as well.
    """
    if reactor is None:
        from twisted.internet import reactor  # noqa: PLC0415 - nobody chose one
    tree = MultiService()
    SystemService(settings, reactor).setServiceParent(tree)
    return tree


class SystemService(Service):
    """
    The system, and what needs it to be there: it starts once, and stops.

    *notifier* tells a service manager how things are.
    """

    def __init__(
        self, settings: Settings, reactor: Any, notifier: Notifier | None = None
    ) -> None:
        self.settings = settings
        self.reactor = reactor
        self._front = _front(settings, reactor) if settings.workers else None
        if self._front is None:
            self.system = System(reactor, settings.state, settings.levels)
            self.tree = Tree(self.system)
        else:
            self.system, self.tree = self._front.system, self._front.tree
        self.system.workers_set = self._workers_set
        self.configurator = Configurator(
            self.tree, settings.config, settings.keep_going
        )
        self.notifier = notifier or Notifier()
        self._console: IListeningPort | None = None
        self._control: IListeningPort | None = None
        self._where = ""
        self._reloading = False
        self._last_words = "Waiting for the commands under way"
        self._command: RunCommand | None = None
        self._starting: Deferred[list[str]] | None = None
        self._waiting: list[Deferred[list[str]]] = []
        self._over: list[Deferred[int]] = []
        self._status: int | None = None
        self._patience = Patience(reactor)
        self._heartbeat = Heartbeat(reactor)

    def startService(self) -> None:
        """Open everything; `whenStarted` says what came of it."""
        super().startService()
        self._heartbeat.start()
        self.system.devices.stalls.start()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addCallbacks(self._started, self._failed)

    def whenStarted(self) -> Deferred[list[str]]:  # noqa: N802 - as Twisted's own
        """
        Return a Deferred that fires with the URL of each LUN when everything is served,
        or fails with why it cannot be: `ConfigurationError` if a person can mend it.

        What has been opened by then is closed by `stopService`, as ever.
        """
        waiting: Deferred[list[str]] = Deferred()
        if self._starting is None or not self._starting.called:
            self._waiting.append(waiting)
        else:
            self._starting.addBoth(_passed_on, waiting)
        return waiting

    def whenDone(self) -> Deferred[int]:  # noqa: N802 - as Twisted's own
        """
        Return a Deferred that fires with the status of the command of ``--run`` when it
        has ended; without one, never.  The service goes on.
        """
        done: Deferred[int] = Deferred()
        if self._status is None:
            self._over.append(done)
        else:
            done.callback(self._status)
        return done

    def _started(self, urls: list[str]) -> list[str]:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(urls)
        return urls

    def _failed(self, failure: Failure) -> Failure:
        self._last_words = failure.getErrorMessage()
        _log.error("{why}", why=self._last_words)
        self.notifier.status(self._last_words)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.errback(failure)
        return failure

    async def _start(self) -> list[str]:
        settings, system = self.settings, self.system
        if settings.temporary:
            _make_temporary(settings.state.path)
        await self._alone()
        if self._front is not None:
            await self._front.start(
                settings.configuration, settings.listen, settings.default
            )
        await self.configurator.start(
            settings.configuration, settings.listen, settings.default
        )
        if self._front is not None:
            watched = self.notifier.interval if self.notifier.address else 0.0
            self._front.serve(2 * watched)
            # What is looked at without asking: sizes, at the console.
            await self.tree.fresh()
        _warn_disabled(settings.configuration)
        urls = system.urls()
        for url in urls:
            _log.info("{url}", url=url)
        self._open_control()
        if settings.manhole is not None:
            await self._open_console(settings.manhole)
        self.notifier.ready(self._summary())
        self.notifier.watch(self.reactor)
        if self.notifier.address:
            system.events.listeners.append(self._heard)
        if settings.run is not None:
            self._command = RunCommand(self.reactor)
            self._command.ended.addCallback(self._ended)
            self._command.start(settings.run, self._environment(urls))
        return urls

    async def _alone(self) -> None:
        """
        Wait until workers have closed their devices whose front was killed.
        """
        state, lane = self.settings.state.path, self.system.devices.lane
        until = self.reactor.seconds() + ORPHANS
        said = False
        while await lane.call(orphans, state):
            if not said:
                _log.warn(
                    "workers of a process that is gone have not closed their devices:"
                    " this one waits for them, {seconds:g} s at most",
                    seconds=ORPHANS,
                )
            said = True
            if self.reactor.seconds() >= until or not self.running:
                _log.warn("workers of a process that is gone are still there")
                return
            await deferLater(self.reactor, _LOOK)

    def _environment(self, urls: list[str]) -> dict[str, str]:
        """
        Return the variables of the command of ``--run``.
        """
        return {
            "SCSTD_URL": urls[0] if urls else "",
            "SCSTD_URLS": " ".join(urls),
            "SCSTD_PORTAL": self.system.portal(),
            "SCSTD_CONTROL": self._where,
        }

    def _ended(self, status: int) -> None:
        self._status = status
        over, self._over = self._over, []
        for one in over:
            one.callback(status)

    def _summary(self) -> str:
        """
        Return what is served, in a line.
        """
        system = self.system
        targets = len(system.drivers.targets)
        lost = [one.name for one in system.devices.values() if one.lost]
        missing = f"; missing: {', '.join(lost)}" if lost else ""
        absent = "" if self._front is None else self._front.absent()
        served = f"{len(system.devices)} devices by {targets} targets"
        return f"Serving {served}{missing}{absent}"

    def _workers_set(self, count: int) -> None:
        # What the command line says is not what the configuration says.
        known = self.settings.configuration.values.get(WORKERS.name)
        if self._starting is not None and self._starting.called and count != known:
            said = f"workers {count}: so many there are from the next start on"
            _log.warn("{said}", said=said)
            heard(said)

    def _heard(self, event: Event) -> None:
        # A reload says itself what came of it.
        if event.name in _CHANGES and not self._reloading:
            self.notifier.status(self._summary())

    def _open_control(self) -> None:
        """
        Open the control socket; that of the default place need not be had.
        """
        wanted = self.settings.control
        if wanted == "":
            return
        path = Path(wanted) if wanted else default_socket(self.settings.state.path)
        try:
            self._control = listen(self.reactor, path, self.tree, self.configurator)
        except ConfigurationError as error:
            if wanted:
                raise ConfigurationError(f"--control {error}") from error
            _log.warn("no control socket: {error}", error=error)
        else:
            self._where = str(path.absolute())
            _log.info("the control socket is {path}", path=str(path))

    def reload(self) -> Deferred[None]:
        """
        Read the configuration file again; what is wrong with it goes to the log.
        """
        if self.running:
            self.notifier.reloading()
        self._reloading = True
        done = Deferred.fromCoroutine(self.configurator.reload())
        done.addCallbacks(lambda _: "", self._not_reloaded)
        return done.addCallback(lambda why: self._reloaded(str(why)))

    def _reloaded(self, why: str) -> None:
        self._reloading = False
        # While it stops there is nothing to be ready for.
        if self.running:
            self.notifier.ready(f"{self._summary()}{why}")

    @staticmethod
    def _not_reloaded(failure: Failure) -> str:
        why = failure.getErrorMessage()
        if failure.check(ConfigurationError):
            _log.error("not reloaded: {why}", why=why)
        else:
            _log.failure("reloading failed", failure=failure)
        return f"; not reloaded: {why}"

    async def _open_console(self, endpoint: str) -> None:
        from scstd.management.console.console import (  # noqa: PLC0415 - conch is heavy
            console_factory,
        )

        assert self.settings.manhole_keys is not None
        factory = console_factory(
            self.tree, self.settings.manhole_keys, self.settings.state.path
        )
        try:
            self._console = await serverFromString(self.reactor, endpoint).listen(
                factory
            )
        except Exception as error:
            raise ConfigurationError(f"--manhole {endpoint}: {error}") from error
        _log.info(
            "the console listens on {where}", where=listening(self._console.getHost())
        )

    def stopService(self) -> Deferred[None]:
        """Stop in reverse order; fire when nothing is left."""
        super().stopService()
        if self._heard in self.system.events.listeners:
            self.system.events.listeners.remove(self._heard)
        self.notifier.stopping(self._last_words)
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """
        Have a stop wait for nothing any more: what can be flushed at once is.
        """
        self._patience.hurry()
        if self._front is not None:
            self._front.hurry()
        if self._command is not None:
            self._command.kill()

    async def _stop(self) -> None:
        patience = self._patience
        if self._command is not None:
            # It is told what we were told.
            number = getattr(self.reactor, "_exitSignal", None) or signal.SIGTERM
            await patience.within(
                ENDS, self._command.stop(number), lambda: "the command of --run"
            )
        ports = [one for one in (self._console, self._control) if one is not None]
        closed = DeferredList([maybeDeferred(one.stopListening) for one in ports])
        await patience.within(CHANGE, closed, lambda: "a port that closes")
        if self._starting is not None:
            started: Deferred[Any] = self.whenStarted().addErrback(lambda _failure: [])
            # Why it did not start was told.
            self._starting.addErrback(lambda _failure: [])
            await patience.within(CHANGE, started, lambda: "the start under way")
        if self._front is None:
            await self.tree.close(patience)
        else:
            await self._front.close(patience)
        self.system.devices.stalls.stop()
        self._heartbeat.stop()
        if self.settings.temporary:
            shutil.rmtree(self.settings.state.path, ignore_errors=True)


def _front(settings: Settings, reactor: Any) -> Any:
    from scstd.workers.front import Front  # noqa: PLC0415 - a process alone has none

    return Front(
        reactor,
        settings.workers,
        settings.state,
        settings.levels,
        keep_going=settings.keep_going,
    )


def _passed_on(result: Any, to: Deferred[Any]) -> Any:
    # A Failure makes it fail.
    to.callback(result)
    return result


def _make_temporary(path: Path) -> None:
    """
    Make a directory that nobody else can have.
    """
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise ConfigurationError(
            f"temporary state directory {path}: {error.strerror}; choose one with"
            " --state-dir"
        ) from error


def _warn_disabled(configuration: Configuration) -> None:
    for driver in configuration.drivers:
        if not driver.values.get("enabled", True):
            _log.warn(
                "target driver {name} is not enabled: nobody can log in"
                " (say: enabled 1)",
                name=driver.name,
            )
        for target in driver.targets:
            if not target.values.get("enabled", True):
                _log.warn(
                    "target {name} is not enabled: nobody sees it (say: enabled 1)",
                    name=target.name,
                )
