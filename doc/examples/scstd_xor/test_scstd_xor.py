"""The contract of a backstore, for a store behind the filter."""

from scstd_xor import XORed
from twisted.trial.unittest import TestCase

from scstd.handlers.memory import MemoryStore
from scstd.testing.contracts import BackstoreContract


class XORedTests(BackstoreContract, TestCase):
    async def open(self):
        store = XORed(MemoryStore(2 << 20, 512), 0x5A)
        store.write(0, bytes(2 << 20), False)
        return store
