"""The contract of a target driver, for the lines of hex."""

from types import SimpleNamespace

from twisted.internet import reactor
from twisted.internet.defer import DeferredQueue
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

from scstd.plugin import TargetDriver
from scstd.testing.driver_contract import DriverContract


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
