# SPDX-License-Identifier: MIT
"""
A target in the test's own process, on a free port of the loopback.

A test of trial's asynchronous ``TestCase`` has one for a store of its own, or for what
the command line can name::

    async def test_mine(self):
        target = await serve(self, MyStore(...))
        client = await SessionClient.for_url(reactor, target.url).connect()

`RunningTarget` is the same as an asynchronous context manager, without trial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from scstd.attributes import Attribute
from scstd.interfaces import IBackstore, IDeviceHandler
from scstd.management.model.configuration import device
from scstd.service import Settings, SystemService
from scstd.tap import Options

STAND_IN = "nothing=memory:size=1M"
"""What the command line is told to serve where there are only stores; it is not."""


@implementer(IDeviceHandler)
@attrs.frozen
class _Given:
    """
    A handler whose device is there already.
    """

    store: IBackstore
    name: str = "given"
    summary: str = "A store of a test"
    device_type: int = 0

    def parameters(self) -> Sequence[Attribute[Any]]:
        """There are none."""
        return ()

    def open(
        self,
        reactor: Any,  # noqa: ARG002
        device: str,  # noqa: ARG002
        parameters: Mapping[str, Any],  # noqa: ARG002
    ) -> IBackstore:
        """Return it."""
        return self.store


class RunningTarget:
    """
    A target with what *options* of ``twistd scst-iscsi`` say, as words (``"--device",
    "d=memory:size=1M"``), and then *stores* as the LUNs after those.

    The stores belong to it: they are closed at its end.  Nothing is kept on disk, but
    for what the options say.
    """

    def __init__(
        self, *stores: IBackstore, options: Sequence[str] = (), reactor: Any = None
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor  # noqa: PLC0415 - nobody chose one
        self.urls: list[str] = []
        """The URL of each LUN, while it runs."""
        self.name = ""
        """The target's name, while it runs."""
        self.stores = stores
        self.service = SystemService(_settings(options), reactor)

    @property
    def url(self) -> str:
        """The URL of LUN 0."""
        return self.urls[0]

    async def start(self) -> RunningTarget:
        """
        Serve; return itself.

        :raises ConfigurationError: something cannot be opened.
        """
        service = self.service
        service.startService()
        before = len(await service.whenStarted())
        (target,) = service.settings.configuration.drivers[0].targets
        self.name = target.name
        for number, store in enumerate(self.stores):
            name = f"test{number}"
            await service.system.devices.add(device(name, _Given(store), ()))
            await self.write("luns/mgmt", f"add {name} {before + number}")
        self.urls = service.system.urls()
        return self

    async def write(self, attribute: str, value: str) -> None:
        """
        Change an attribute of the target, or what else is in its directory of the tree.

        :raises ConfigurationError: it is refused.
        """
        await self.service.tree.write(f"targets/iscsi/{self.name}/{attribute}", value)

    async def stop(self) -> None:
        """
        End the sessions, and close what was opened.
        """
        await self.service.stopService()

    async def __aenter__(self) -> RunningTarget:  # noqa: PYI034
        """Start."""
        try:
            return await self.start()
        except BaseException:
            await self.stop()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()


def _settings(options: Sequence[str]) -> Settings:
    parsed = Options()
    words = ["--listen", "127.0.0.1:0", "--state-dir", ""]
    parsed.parseOptions([*words, *(options or ("--device", STAND_IN))])
    settings: Settings = parsed["settings"]
    if options:
        return settings
    configuration = settings.configuration
    (driver,) = configuration.drivers
    (target,) = driver.targets
    bare = attrs.evolve(driver, targets=(attrs.evolve(target, luns=()),))
    configuration = attrs.evolve(configuration, devices=(), drivers=(bare,))
    return attrs.evolve(settings, configuration=configuration)


async def serve(
    case: TestCase, *stores: IBackstore, options: Sequence[str] = ()
) -> RunningTarget:
    """
    Return a target that runs until the end of a test.
    """
    target = RunningTarget(*stores, options=options)
    case.addCleanup(lambda: Deferred.fromCoroutine(target.stop()))
    return await target.start()
