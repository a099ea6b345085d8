"""The contract of a backstore, for ours: python -m twisted.trial test_scstd_sqlite"""

from scstd_sqlite import SQLiteStore
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from scstd.initiator.commands import read10, write10
from scstd.initiator.twisted import SessionClient
from scstd.testing.contracts import BackstoreContract
from scstd.testing.target import serve


class SQLiteTests(BackstoreContract, TestCase):
    async def open(self):
        return SQLiteStore(reactor, self.mktemp(), 2 << 20)

    async def test_served(self):
        target = await serve(self, await self.open())
        client = await SessionClient.for_url(reactor, target.url).connect()
        await client.execute(bytes(6))  # TEST UNIT READY: the unit attention
        written = await client.execute(write10(7, 1), data=b"x" * 4096)
        found = await client.execute(read10(7, 1), read=4096)
        assert (written.status, found.data) == (0, b"x" * 4096)
        await client.logout()
