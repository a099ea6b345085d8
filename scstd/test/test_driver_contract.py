# SPDX-License-Identifier: MIT
"""
The contract of target drivers, for ours and for the example.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

from scstd.initiator.blocking import BlockingSession, name_of
from scstd.initiator.commands import CommandResult
from scstd.plugin import TargetDriver, find_target_driver
from scstd.test.test_example import example
from scstd.testing.driver_client import asc_of, read_cdb, write_cdb
from scstd.testing.driver_contract import GOOD, READY, DriverContract
from scstd.testing.held_store import BLOCK

RESET_OCCURRED = 0x2903
"""BUS DEVICE RESET FUNCTION OCCURRED."""


class ISCSIClient:
    """
    A session of an initiator on a blocking socket, in threads.
    """

    def __init__(self, session: BlockingSession) -> None:
        self.session = session

    async def do(self, lun: int, cdb: bytes, *, data: bytes = b"") -> CommandResult:
        """Carry out a command."""
        return await deferToThread(self._do, lun, cdb, data)

    def _do(self, lun: int, cdb: bytes, data: bytes) -> CommandResult:
        self.session.lun = lun
        # TEST UNIT READY moves nothing, and tells unit attentions.
        read = 4096 if any(cdb) and not data else 0
        return self.session.do(cdb, data=data, read=read)

    async def close(self) -> None:
        """Close the connection; who waits in a thread is told."""
        with contextlib.suppress(OSError):
            self.session.socket.shutdown(2)
        self.session.close()


class ISCSIContract(DriverContract, TestCase):
    """
    The driver iscsi keeps the contract.
    """

    names = ("iqn.2026-11.org.scstd:one", "iqn.2026-11.org.scstd:two")
    bad_names = ("one", "iqn", "iqn.2026-11.org.scstd:a/b")
    initiators = (name_of(1), name_of(2))
    target_settings = {"LogoutTimeout": "0", "aen_disabled": "1"}

    @property
    def plugin(self) -> Any:
        """The plugin."""
        return find_target_driver("iscsi")

    async def login(self, address: Any, initiator: str, target: str) -> ISCSIClient:
        """Log in, over a socket of a thread."""
        url = f"iscsi://{address.host}:{address.port}/{target}/0"
        number = self.initiators.index(initiator) + 1
        return ISCSIClient(await deferToThread(BlockingSession, url, number))


class LinesClient(LineOnlyReceiver):
    """
    An initiator of the example.
    """

    delimiter = b"\n"
    MAX_LENGTH = 1 << 22

    def __init__(self) -> None:
        self.tags = 0
        self.waiting: dict[str, Deferred[list[str]]] = {}
        self.lost = False

    def ask(self, key: str, *words: str) -> Deferred[list[str]]:
        """Send a line; fire with the words of the answer that begins with *key*."""
        answer = self.waiting[key] = Deferred()
        if self.lost:
            self.connectionLost(None)
        else:
            self.sendLine(" ".join(words).encode())
        return answer

    def lineReceived(self, line: bytes) -> None:  # noqa: N802 - Twisted's name
        """Give an answer to whoever waits for it."""
        words = line.decode().split()
        waiting = self.waiting.pop(words[0], None) or self.waiting.pop("", None)
        if waiting is not None:
            waiting.callback(words)

    def connectionLost(self, reason: Any = None) -> None:
        """Tell all who wait."""
        self.lost = True
        waiting, self.waiting = self.waiting, {}
        for one in waiting.values():
            one.errback(ConnectionError("closed"))

    async def do(self, lun: int, cdb: bytes, *, data: bytes = b"") -> CommandResult:
        """Carry out a command."""
        self.tags += 1
        tag = str(self.tags)
        said = await self.ask(tag, tag, str(lun), cdb.hex(), data.hex() or "-")
        sense, got = (b"" if one == "-" else bytes.fromhex(one) for one in said[2:])
        return CommandResult(int(said[1], 16), got, sense)

    async def close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.loseConnection()


async def lines_login(address: Any, initiator: str, target: str) -> LinesClient:
    """
    Return an initiator of the example that is logged in.
    """
    where = clientFromString(reactor, f"tcp:{address.host}:{address.port}")
    client = LinesClient()
    await connectProtocol(where, client)
    (said,) = await client.ask("", "login", initiator, target)
    if said != "ok":
        raise ConnectionError(said)
    return client


class LinesContract(DriverContract, TestCase):
    """
    So does the example.
    """

    @property
    def plugin(self) -> Any:
        """The plugin, without an installation."""
        if "scstd_lines" not in sys.modules:
            sys.modules["scstd_lines"] = example("scstd_lines")
        return TargetDriver("lines", "Lines of hex", "scstd_lines")

    async def login(self, address: Any, initiator: str, target: str) -> LinesClient:
        """Log in."""
        return await lines_login(address, initiator, target)

    async def write(self, client: LinesClient) -> Deferred[list[str]]:
        """Return the answer to a write, tag 99, that waits at the store."""
        self.store.held = True
        answer = client.ask("99", "99", "0", write_cdb(0).hex(), bytes(BLOCK).hex())
        await self.until(lambda: self.store.waiting)
        self.store.held = False
        return answer

    async def test_abort(self) -> None:
        """A task is aborted when it cannot write any more; it is not answered."""
        client = await self.login(self.address, self.initiators[0], self.names[0])
        await client.do(0, READY)
        write = await self.write(client)
        aborted = client.ask("abort", "abort", "99")
        self.assertEqual((await client.do(0, READY)).status, GOOD)
        self.assertFalse(aborted.called)
        self.store.release()
        self.assertEqual(await aborted, ["abort", "99"])
        # Its tag is free again.
        self.assertFalse(write.called)
        said = await client.ask("99", "99", "0", read_cdb(0).hex())
        self.assertEqual(said, ["99", "00", "-", bytes(BLOCK).hex()])
        await client.close()

    async def test_abort_nothing(self) -> None:
        """A task that is not there is as one that was aborted."""
        client = await self.login(self.address, self.initiators[0], self.names[0])
        self.assertEqual(await client.ask("abort", "abort", "5"), ["abort", "5"])
        await client.close()

    async def test_reset(self) -> None:
        """A reset ends everybody's tasks, and is over when they write no more."""
        one = await self.login(self.address, self.initiators[0], self.names[0])
        two = await self.login(self.address, self.initiators[1], self.names[0])
        for client in (one, two):
            await client.do(0, READY)
        write = await self.write(two)
        write.addErrback(lambda _failure: None)
        reset = one.ask("reset", "reset", "0")
        self.assertEqual(asc_of(await one.do(0, READY)), RESET_OCCURRED)
        self.assertFalse(reset.called)
        self.store.release()
        self.assertEqual(await reset, ["reset", "0", "FUNCTION_COMPLETE"])
        self.assertFalse(write.called)
        self.assertEqual(asc_of(await two.do(0, READY)), RESET_OCCURRED)
        self.assertEqual((await two.do(0, READY)).status, GOOD)
        for client in (one, two):
            await client.close()

    async def test_reset_nothing(self) -> None:
        """There is a word for a LUN that is not there."""
        client = await self.login(self.address, self.initiators[0], self.names[0])
        said = await client.ask("reset", "reset", "7")
        self.assertEqual(said, ["reset", "7", "INCORRECT_LOGICAL_UNIT_NUMBER"])
        await client.close()
