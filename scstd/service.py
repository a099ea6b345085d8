# SPDX-License-Identifier: MIT
"""
The tree of services: the system, its control socket, the console, and the command of
``--run``.

They start in this order and stop in reverse.  What cannot start says why in one line
and ends the process with status 1.  SIGHUP has the configuration file read again.  The
service manager is told of all that (`scstd.notify`).
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from scstd.attributes import ConfigurationError
from scstd.management.applying import Configurator
from scstd.management.configuration import Configuration
from scstd.management.control import listen
from scstd.management.events import Event
from scstd.management.logs import Levels
from scstd.management.places import default_socket
from scstd.management.portals import listening
from scstd.management.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree import Tree
from scstd.notify import Notifier

_log = Logger()

_CHANGES = {"REG_VIRT_DEV", "DEVICE_CLOSED", "CONFIGURATION_APPLIED"}
"""Events after which the service manager is told anew what is served."""


@attrs.frozen
class Settings:
    """
    What is to run.

    *listen* has the portals of the command line, which take the place of those that are
    configured; *default* is where to listen when there are neither.  *config* is the
    file that is read again at a reload, *control* the path of the control socket
    ("" for none).
    """

    configuration: Configuration
    listen: list[str]
    state: StateDirectory
    default: tuple[str, ...] = ()
    config: str | None = None
    control: str | None = None
    run: str | None = None
    manhole: str | None = None
    manhole_keys: str | None = None
    levels: Levels = attrs.field(factory=Levels)
    log_format: str = "text"


def make_service(
    settings: Settings, reactor: Any = None, observer: ILogObserver | None = None
) -> IService:
    """
    Return the tree of services; *observer* is to write the log of their application.
    """
    if reactor is None:
        from twisted.internet import reactor  # noqa: PLC0415 - twistd has chosen by now
    tree = Services(observer)
    system = SystemService(settings, reactor)
    system.setServiceParent(tree)
    return tree


class Services(MultiService):
    """
    The services, and what writes the log of the application that they are put into:
    twistd asks that for it.
    """

    def __init__(self, observer: ILogObserver | None = None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802 - Twisted's name
        """Go into an application."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)


def exit_with(status: int) -> None:
    """
    Have the process end with *status*, which twistd has no word for.
    """

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(leave)


class SystemService(Service):
    """
    The system, and what needs it to be there.
    """

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self.settings = settings
        self.reactor = reactor
        self.system = System(reactor, settings.state, settings.levels)
        self.tree = Tree(self.system)
        self.configurator = Configurator(self.tree, settings.config)
        self._console: IListeningPort | None = None
        self._control: IListeningPort | None = None
        self._hung_up = False
        self._reloading = False
        self._last_words = "Waiting for the commands under way"
        self._command: Command | None = None
        self._starting: Deferred[None] | None = None
        self.notifier = Notifier.of(os.environ)

    def startService(self) -> None:
        """Open everything; stop the reactor if that fails."""
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    async def _start(self) -> None:
        settings, system = self.settings, self.system
        await self.configurator.start(
            settings.configuration,
            {"iscsi": settings.listen},
            {"iscsi": settings.default},
        )
        _warn_disabled(settings.configuration)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, self._hang_up)
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
            self._command = Command(self.reactor)
            self._command.start(settings.run, urls)

    def _summary(self) -> str:
        """
        Return what is served, in a line.
        """
        system = self.system
        targets = len(system.drivers.targets)
        return f"Serving {len(system.devices)} devices by {targets} targets"

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
            _log.info("the control socket is {path}", path=str(path))

    def _hang_up(self, _signal: int, _frame: FrameType | None) -> None:
        # Many that come at once are one: each would interrupt the last.
        if not self._hung_up:
            self._hung_up = True
            self.reactor.callFromThread(self._reload_once)

    def _reload_once(self) -> None:
        # From here on the file is read: another signal may mean another content.
        self._hung_up = False
        self.reload()

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
        from scstd.management.console import (  # noqa: PLC0415 - conch is heavy
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

    def _failed(self, failure: Failure) -> None:
        if failure.check(ConfigurationError):
            _log.error("{why}", why=failure.getErrorMessage())
        else:
            _log.failure("starting failed", failure=failure)
        self._last_words = failure.getErrorMessage()
        self.notifier.status(self._last_words)
        exit_with(1)
        self.reactor.callWhenRunning(self.reactor.stop)

    def stopService(self) -> Deferred[None]:
        """Stop in reverse order; fire when nothing is left."""
        super().stopService()
        if self._heard in self.system.events.listeners:
            self.system.events.listeners.remove(self._heard)
        self.notifier.stopping(self._last_words)
        self._stop_once()
        return Deferred.fromCoroutine(self._stop())

    def _stop_once(self) -> None:
        """
        Have a second Ctrl-C wait: to stop the reactor twice is an error to Twisted.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number, own in ((signal.SIGINT, "sigInt"), (signal.SIGTERM, "sigTerm")):
            if signal.getsignal(number) == getattr(self.reactor, own, None):
                signal.signal(number, self._stopping)

    def _stopping(self, _signal: int, _frame: FrameType | None) -> None:
        self.reactor.callFromThread(
            _log.info, "stopping already: what is under way may end"
        )

    async def _stop(self) -> None:
        if self._command is not None:
            self._command.stop()
        for port in (self._console, self._control):
            closed = port.stopListening() if port is not None else None
            if closed is not None:
                await closed
        if self._starting is not None:
            await self._starting
        await self.tree.close()


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


class Command(ProcessProtocol):
    """
    The command of ``--run``: its end is the end of the process.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running = False

    def start(self, command: str, urls: list[str]) -> None:
        """
        Run *command* by the shell, with the URLs in its environment.
        """
        first = urls[0] if urls else ""
        environment = {
            **os.environ,
            "SCSTD_URL": first,
            "SCSTD_URLS": " ".join(urls),
            "SCSTD_PORTAL": first.partition("://")[2].partition("/")[0],
        }
        sys.stdout.flush()
        self._running = True
        self._reactor.spawnProcess(
            self,
            "/bin/sh",
            ["sh", "-c", command],
            env=environment,
            childFDs={0: 0, 1: 1, 2: 2},
        )

    def processEnded(self, reason: Failure) -> None:
        """Take over its status, and stop."""
        self._running = False
        status = 0
        if isinstance(reason.value, ProcessTerminated):
            signaled = reason.value.signal
            status = 128 + signaled if signaled else reason.value.exitCode or 0
        elif not isinstance(reason.value, ProcessDone):
            status = 1
        exit_with(status)
        # It may have ended before the reactor has begun to run.
        self._reactor.callWhenRunning(_stop, self._reactor)

    def stop(self) -> None:
        """
        End it, if it runs.
        """
        if self._running and self.transport is not None:
            self.transport.signalProcess(signal.SIGTERM)


def _stop(reactor: Any) -> None:
    if reactor.running:
        reactor.stop()
