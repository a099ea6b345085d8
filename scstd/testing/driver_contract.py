# SPDX-License-Identifier: MIT
"""
The contract of a target driver as tests: for ours, and for those of other packages.

Inherit from `DriverContract` and trial's ``TestCase``, say which plugin it is and how
an initiator of its protocol logs in, and run it with trial::

    from twisted.trial.unittest import TestCase
    from scstd.testing.driver_contract import DriverContract

    class MyDriverTests(DriverContract, TestCase):
        plugin = mypackage.plugins.mine
        names = ("one", "two")

        async def login(self, address, initiator, target):
            return await MyClient.connected(address, initiator, target)

The driver is called as the service calls it (`scstd.interfaces.ITargetDriverInstance`),
over a real port of this machine; a disk in memory is behind it whose calls can be held.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory
from twisted.internet.protocol import Protocol as Connection
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from scstd.attributes import Attribute, ConfigurationError, Effect, parse_values
from scstd.interfaces import (
    IReporting,
    ITargetDriver,
    ITargetDriverInstance,
)
from scstd.results import settled
from scstd.scsi.device import open_disk
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit
from scstd.testing.driver_client import (
    Client,
    asc_of,
    key_of,
    prout,
    read_cdb,
    write_cdb,
)
from scstd.testing.held_store import BLOCK, SIZE, HeldStore

READY = bytes(6)
"""The CDB of TEST UNIT READY."""

GOOD, CONFLICT = 0x00, 0x18
_UNIT_ATTENTION, _ILLEGAL_REQUEST = 0x06, 0x05
_NO_SUCH_LUN = 0x2500
_LUNS_CHANGED = 0x3F0E

_GARBAGE = (b"\xff" * 200, b"GET / HTTP/1.0\r\n\r\n", bytes(range(256)) * 4)

_TEXTS = ("1", "0", "2", "7", "512", "Yes", "No", "None", "word")
"""What attributes are set to, as far as they take it."""


class DriverContract:
    """
    What every target driver has to do.
    """

    plugin: Any
    """The `ITargetDriver`."""
    names: tuple[str, str] = ("one", "two")
    """Two names that its targets can have."""
    bad_names: tuple[str, ...] = ()
    """Names that they cannot have."""
    initiators: tuple[str, str] = ("initiator-a", "initiator-b")
    """Two names of initiators."""
    endpoint = "tcp:0:interface=127.0.0.1"
    """Where it can listen: ports that are free."""
    settings: Mapping[str, str] = {}
    """Attributes of the driver, and *target_settings* of its targets, as texts."""
    target_settings: Mapping[str, str] = {}

    # trial's.
    assertEqual: Any  # noqa: N815
    assertIn: Any  # noqa: N815
    assertTrue: Any  # noqa: N815
    assertFalse: Any  # noqa: N815
    assertRaises: Any  # noqa: N815
    fail: Any

    async def login(self, address: Any, initiator: str, target: str) -> Client:
        """
        Return an initiator that is logged in to a target, over the address
        (`IListeningPort.getHost`).  Raise anything if it is not let in.
        """
        raise NotImplementedError

    # How it is set up.

    def setUp(self) -> Any:
        """Set up, as trial has it."""
        return Deferred.fromCoroutine(self._begin())

    def tearDown(self) -> Any:
        """Tear down, as trial has it."""
        return Deferred.fromCoroutine(self._finish())

    async def _begin(self) -> None:
        """Have a driver with one target listen."""
        from twisted.internet import reactor  # noqa: PLC0415 - trial has chosen it

        self.reactor: Any = reactor
        self.clients: list[Client] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        rows = self.plugin.attributes()
        on = {"enabled": "1"} if any(row.name == "enabled" for row in rows) else {}
        values = parse_values(rows, [*on.items(), *self.settings.items()])
        self.driver: Any = self.plugin.open(reactor, values)
        if IReporting.providedBy(self.driver):
            self.driver.report_to(self._report)
        self.store, self.unit = self.disk("disk")
        self.target = self.serve(self.names[0], self.unit, 1)
        self.port = await settled(self.driver.listen(self.endpoint))
        self.address = self.port.getHost()

    async def _finish(self) -> None:
        """Stop it."""
        self.store.release()
        await settled(self.driver.stop())
        for client in self.clients:
            await client.close()

    def _report(self, name: str, /, **fields: Any) -> None:
        self.events.append((name, fields))

    def disk(self, name: str) -> tuple[HeldStore, LogicalUnit]:
        """
        Return a disk, and the store that it is on.
        """
        store = HeldStore()
        return store, open_disk(name, store)

    def serve(self, name: str, unit: LogicalUnit, number: int) -> Target:
        """
        Have the driver serve a target with a unit at LUN 0.
        """
        target = Target(name, relative_port=number, report=self._report)
        target.add_lun(0, unit)
        rows = self.plugin.target_attributes()
        values = parse_values(rows, self.target_settings.items())
        self.driver.add_target(target, values)
        return target

    async def client(self, which: int = 0, target: int = 0) -> Client:
        """
        Return an initiator that is logged in, and has taken its unit attention.
        """
        client = await self.login(
            self.address, self.initiators[which], self.names[target]
        )
        self.clients.append(client)
        answer = await client.do(0, READY)
        self.assertEqual(key_of(answer), _UNIT_ATTENTION)
        return client

    async def refused(self, target: str) -> None:
        """
        See that nobody is let in.
        """
        try:
            client = await self.login(self.address, self.initiators[0], target)
        except Exception:  # noqa: BLE001 - whatever the protocol says
            return
        self.clients.append(client)
        self.fail(f"was let in to {target}")

    async def over(self, client: Client) -> None:
        """
        See that a session is over: its commands are not carried out.
        """
        try:
            answer = await client.do(0, READY)
        except Exception:  # noqa: BLE001 - whatever the protocol says
            return
        self.fail(f"was answered {answer.status}")

    async def until(self, call: Callable[[], object]) -> None:
        """
        Wait until something is so, for ten seconds at most.
        """
        for _ in range(1000):
            if call():
                return
            await deferLater(self.reactor, 0.01)
        self.fail("it did not come to pass")

    def begun(self, work: Awaitable[Any]) -> Deferred[Any]:
        """
        Begin something whose end is not waited for; its failure is nobody's.
        """

        async def run() -> Any:
            return await work

        begun = Deferred.fromCoroutine(run())
        begun.addErrback(lambda _failure: None)
        return begun

    # What it is.

    async def test_interfaces(self) -> None:
        """The plugin, and the driver that it opens, are what they say."""
        self.assertTrue(verifyObject(ITargetDriver, self.plugin))
        self.assertTrue(verifyObject(ITargetDriverInstance, self.driver))

    async def test_names(self) -> None:
        """The driver says which names its targets can have; its default is one."""
        for name in (*self.names, self.plugin.default_target_name()):
            known, remark = self.plugin.target_name(name)
            self.assertEqual((known, remark), (name, ""))
        for name in self.bad_names:
            self.assertRaises(ConfigurationError, self.plugin.target_name, name)

    async def test_attributes(self) -> None:
        """Every row of the tables has a value; what is set is read back."""
        names = {row.name for row in self.plugin.attributes()}
        self.assertEqual(set(self.driver.attributes()), names)
        name = self.names[0]
        rows = list(self.plugin.target_attributes())
        found = self.driver.attributes_of(name)
        self.assertEqual(set(found), {row.name for row in rows})
        for row in rows:
            if row.effect is Effect.OPEN or row.secret:
                continue
            for value in _values(row):
                self.driver.set_attribute(name, row.name, value)
                self.assertEqual(self.driver.attributes_of(name)[row.name], value)

    async def test_two_targets(self) -> None:
        """Targets have attributes and units of their own."""
        other, unit = self.disk("other")
        self.serve(self.names[1], unit, 2)
        one, two = await self.client(), await self.client(target=1)
        data = b"x" * BLOCK
        self.assertEqual((await one.do(0, write_cdb(0), data=data)).status, GOOD)
        self.assertEqual((await two.do(0, read_cdb(0))).data, bytes(BLOCK))
        self.assertEqual(bytes(other.data[:BLOCK]), bytes(BLOCK))
        await settled(self.driver.remove_target(self.names[1]))
        self.assertEqual((await one.do(0, read_cdb(0))).data, data)

    # Who is let in.

    async def test_unknown(self) -> None:
        """Nobody is let in to a target that is not there."""
        await self.refused(self.names[1])

    async def test_enabled(self) -> None:
        """A target that is not enabled lets nobody in; its sessions stay."""
        client = await self.client()
        self.target.enabled = False
        self.driver.target_changed(self.names[0])
        await self.refused(self.names[0])
        self.assertEqual((await client.do(0, READY)).status, GOOD)
        self.target.enabled = True
        self.driver.target_changed(self.names[0])
        await self.client(1)

    async def test_unlisten(self) -> None:
        """A port that is closed takes nobody; its sessions stay, and others do."""
        client = await self.client()
        other = await settled(self.driver.listen(self.endpoint))
        await settled(self.driver.unlisten(self.port))
        await self.refused(self.names[0])
        self.assertEqual((await client.do(0, READY)).status, GOOD)
        self.address = other.getHost()
        await self.client(1)

    async def test_urls(self) -> None:
        """There is a URL for each LUN of each enabled target."""
        self.target.add_lun(3, self.unit)
        urls = self.driver.urls()
        self.assertEqual(len(urls), 2)
        self.assertEqual(len(set(urls)), 2)
        self.assertTrue(all("://" in url and self.names[0] in url for url in urls))
        self.target.enabled = False
        self.assertEqual(list(self.driver.urls()), [])

    async def test_garbage(self) -> None:
        """What makes no sense ends a connection at most."""
        client = await self.client()
        here = self.address
        where = clientFromString(self.reactor, f"tcp:{here.host}:{here.port}")
        for data in _GARBAGE:
            made: Any = await where.connect(Factory.forProtocol(Connection))
            transport: ITransport = made.transport
            transport.write(data)
            transport.loseConnection()
        self.assertEqual((await client.do(0, READY)).status, GOOD)
        await self.client(1)

    # Commands.

    async def test_commands(self) -> None:
        """Commands are carried out, with their data in either direction and sense."""
        client = await self.client()
        self.assertEqual((await client.do(0, READY)).status, GOOD)
        data = bytes(range(256)) * 2
        self.assertEqual((await client.do(0, write_cdb(5), data=data)).status, GOOD)
        answer = await client.do(0, read_cdb(5))
        self.assertEqual((answer.status, bytes(answer.data)), (GOOD, data))
        answer = await client.do(0, read_cdb(SIZE // BLOCK))
        self.assertEqual(key_of(answer), _ILLEGAL_REQUEST)
        answer = await client.do(7, READY)
        self.assertEqual(asc_of(answer), _NO_SUCH_LUN)

    async def test_luns(self) -> None:
        """LUNs come and go under a session, which is told."""
        client = await self.client()
        _store, unit = self.disk("other")
        self.target.add_lun(1, unit)
        answer = await client.do(0, READY)
        self.assertEqual(asc_of(answer), _LUNS_CHANGED)
        for _attention in range(3):
            answer = await client.do(1, READY)
            if answer.status == GOOD:
                break
        self.assertEqual(answer.status, GOOD)
        await self.target.remove_lun(1)
        answer = await client.do(1, READY)
        self.assertEqual(asc_of(answer), _NO_SUCH_LUN)

    async def test_reservations(self) -> None:
        """Two initiators are two: what one has reserved the other may not write."""
        one, two = await self.client(), await self.client(1)
        for action, kind, key, new in ((0, 0, 0, 5), (1, 1, 5, 0)):
            cdb, data = prout(action, kind, key, new)
            self.assertEqual((await one.do(0, cdb, data=data)).status, GOOD)
        data = bytes(BLOCK)
        self.assertEqual((await two.do(0, write_cdb(0), data=data)).status, CONFLICT)
        self.assertEqual((await one.do(0, write_cdb(0), data=data)).status, GOOD)
        # It outlives the session, for it is the initiator's.
        await one.close()
        await self.until(lambda: len(self.driver.sessions()) == 1)
        self.assertEqual((await two.do(0, write_cdb(0), data=data)).status, CONFLICT)
        again = await self.client()
        self.assertEqual((await again.do(0, write_cdb(0), data=data)).status, GOOD)

    # Sessions, and their ends.

    async def test_sessions(self) -> None:
        """Sessions are listed, with what there is to say of each."""
        await self.client()
        await self.client(1)
        sessions = list(self.driver.sessions())
        self.assertEqual({one.initiator for one in sessions}, set(self.initiators))
        for one in sessions:
            self.assertTrue(one.nexus.target is self.target)
            self.assertFalse("/" in one.initiator)
            report = self.driver.report(one)
            self.assertTrue(all(isinstance(name, str) for name in report))
            self.assertFalse(any("/" in name for name in report))

    async def test_events(self) -> None:
        """Sessions that come and go are told, if the driver tells of anything."""
        if not IReporting.providedBy(self.driver):
            return
        client = await self.client()
        await client.close()
        await self.until(lambda: not self.driver.sessions())
        for wanted in ("SESSION_OPENED", "SESSION_CLOSED"):
            (fields,) = (said for name, said in self.events if name == wanted)
            self.assertEqual(fields["target"], self.target.qualified_name)
            self.assertEqual(fields["initiator"], self.initiators[0])

    async def test_end_session(self) -> None:
        """A session that is ended is over, and gone from the list; others stay."""
        client, other = await self.client(), await self.client(1)
        (session,) = (
            one for one in self.driver.sessions() if one.initiator == self.initiators[0]
        )
        await settled(self.driver.end_session(session, "for a test"))
        await self.over(client)
        self.assertEqual(len(self.driver.sessions()), 1)
        self.assertEqual((await other.do(0, READY)).status, GOOD)
        await self.client()

    async def test_end_at_work(self) -> None:
        """The end of a session is there when no command of it can touch data."""
        client = await self.client()
        await self._at_work(client)
        (session,) = self.driver.sessions()
        ended = self.driver.end_session(session, "for a test")
        await self._then(ended)

    async def test_remove_target(self) -> None:
        """A target is gone at once, and done with when no command can touch data."""
        client = await self.client()
        await self._at_work(client)
        removed = self.driver.remove_target(self.names[0])
        await self.refused(self.names[0])
        await self._then(removed)
        self.assertEqual(list(self.driver.sessions()), [])
        await self.over(client)
        # Another one of its name may come.
        self.target = self.serve(self.names[0], self.unit, 1)
        await self.client()

    async def test_connection_lost(self) -> None:
        """A session whose connection is gone leaves the unit, with its commands."""
        client = await self.client()
        await self._at_work(client)
        await client.close()
        await self.until(lambda: not self.driver.sessions())
        self.store.release()
        await self.until(lambda: not self.unit.itls and not self.unit.tasks())

    async def test_again(self) -> None:
        """An initiator is there once; what it wrote before never comes after what it
        does next.
        """
        client = await self.client()
        try:
            host, name = self.address, self.names[0]
            self.clients.append(await self.login(host, self.initiators[0], name))
        except Exception:  # noqa: BLE001 - then it is the first one that stays
            self.assertEqual((await client.do(0, READY)).status, GOOD)
        else:
            client = self.clients[-1]
            await client.do(0, READY)
        self.assertEqual(len(self.driver.sessions()), 1)
        await self._at_work(client)
        await client.close()
        self.store.held = False
        again = self.begun(self._write_again())
        await deferLater(self.reactor, 0.2)
        self.store.release()
        wanted = b"n" if await again else b"w"
        await self.until(lambda: not self.unit.tasks())
        self.assertEqual(bytes(self.store.data[:BLOCK]), wanted * BLOCK)

    async def _write_again(self) -> bool:
        client = await self.client()
        data = b"n" * BLOCK
        return (await client.do(0, write_cdb(0), data=data)).status == GOOD

    async def test_stop(self) -> None:
        """A stop lets commands end, then nobody is there any more."""
        client = await self.client()
        await self._at_work(client)
        stopped = self.begun(settled(self.driver.stop()))
        await deferLater(self.reactor, 0.05)
        self.assertFalse(stopped.called)
        self.store.release()
        await stopped
        self.assertEqual(bytes(self.store.data[:BLOCK]), b"w" * BLOCK)
        self.assertEqual(list(self.driver.sessions()), [])
        self.assertEqual(self.unit.tasks(), [])
        await self.refused(self.names[0])

    async def _at_work(self, client: Client) -> None:
        """
        Have a write wait at the store.
        """
        self.store.held = True
        self.begun(client.do(0, write_cdb(0), data=b"w" * BLOCK))
        await self.until(lambda: self.store.waiting)

    async def _then(self, ended: Any) -> None:
        """
        See that something is over when the write at the store is, and not before.
        """
        self.assertTrue(isinstance(ended, Deferred))
        await deferLater(self.reactor, 0.05)
        self.assertFalse(ended.called)
        self.store.release()
        await ended
        self.assertEqual(self.unit.tasks(), [])


def _values(row: Attribute[Any]) -> list[Any]:
    """
    Return some values that an attribute can have.
    """
    found = []
    for text in _TEXTS:
        try:
            value = row.parse(text)
        except ConfigurationError:
            continue
        found.append((value,) if row.repeats else value)
    return found
