"""The contract of a backstore, for ours: python -m twisted.trial test_scstd_sqlite"""

from scstd_sqlite import SQLiteStore
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from scstd.testing.contracts import BackstoreContract


class SQLiteTests(BackstoreContract, TestCase):
    async def open(self):
        return SQLiteStore(reactor, self.mktemp(), 2 << 20)
