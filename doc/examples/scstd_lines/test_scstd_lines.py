"""The contract of a target driver, for the lines of hex."""

from types import SimpleNamespace

from twisted.internet import reactor
from twisted.internet.defer import DeferredQueue
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

from scstd.plugin import TargetDriver
from scstd.testing.driver_client import asc_of, read_cdb, write_cdb
from scstd.testing.driver_contract import READY, DriverContract
from scstd.testing.held_store import BLOCK

RESET_OCCURRED = 0x2903


class Client(LineOnlyReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 1 << 22

    def __init__(self):
        self.said = DeferredQueue()

    def lineReceived(self, line):  # noqa: N802 - Twisted's name
        self.said.put(line.decode().split())

    def connectionLost(self, reason):
        self.said.put(None)

    async def ask(self, *words):
        self.sendLine(" ".join(words).encode())
        said = await self.said.get()
        if said is None:
            self.said.put(None)
            raise ConnectionError("closed")
        return said

    async def do(self, lun, cdb, *, data=b""):
        said = await self.ask("1", str(lun), cdb.hex(), data.hex() or "-")
        sense, got = (b"" if one == "-" else bytes.fromhex(one) for one in said[2:])
        return SimpleNamespace(status=int(said[1], 16), sense=sense, data=got)

    async def close(self):
        self.transport.loseConnection()


class LinesTests(DriverContract, TestCase):
    plugin = TargetDriver("lines", "Lines of hex on a TCP port", "scstd_lines")

    async def login(self, address, initiator, target):
        where = clientFromString(reactor, f"tcp:{address.host}:{address.port}")
        client = await connectProtocol(where, Client())
        if await client.ask("login", initiator, target) != ["ok"]:
            raise ConnectionError("refused")
        return client

    async def write(self, client, tag):
        """Send a write that waits at the store."""
        self.store.held = True
        client.sendLine(f"{tag} 0 {write_cdb(0).hex()} {bytes(BLOCK).hex()}".encode())
        await self.until(lambda: self.store.waiting)
        self.store.held = False

    async def test_abort(self):
        """A task is aborted when it cannot write any more; it is not answered."""
        client = await self.client()
        await self.write(client, 5)
        client.sendLine(b"abort 5")
        self.assertEqual((await client.do(0, READY)).status, 0)
        self.assertEqual(client.said.pending, [])
        self.store.release()
        self.assertEqual(await client.said.get(), ["abort", "5"])
        # Its tag is free again.
        said = await client.ask("5", "0", read_cdb(0).hex())
        self.assertEqual(said, ["5", "00", "-", bytes(BLOCK).hex()])

    async def test_abort_nothing(self):
        """A task that is not there is as one that was aborted."""
        client = await self.client()
        self.assertEqual(await client.ask("abort", "5"), ["abort", "5"])

    async def test_reset(self):
        """A reset ends everybody's tasks, and is over when they write no more."""
        client, other = await self.client(), await self.client(1)
        await self.write(other, 5)
        client.sendLine(b"reset 0")
        answer = await client.do(0, READY)
        self.assertEqual(asc_of(answer), RESET_OCCURRED)
        self.assertEqual(client.said.pending, [])
        self.store.release()
        self.assertEqual(await client.said.get(), ["reset", "0", "FUNCTION_COMPLETE"])
        self.assertEqual(asc_of(await other.do(0, READY)), RESET_OCCURRED)
        self.assertEqual((await other.do(0, READY)).status, 0)

    async def test_reset_nothing(self):
        """There is a word for a LUN that is not there."""
        client = await self.client()
        said = await client.ask("reset", "7")
        self.assertEqual(said, ["reset", "7", "INCORRECT_LOGICAL_UNIT_NUMBER"])
