"""The contract of a backstore, for a store behind the filter."""

from scstd_tally import Tallied
from twisted.trial.unittest import TestCase

from scstd.handlers.memory import MemoryStore
from scstd.testing.contracts import BackstoreContract


class TalliedTests(BackstoreContract, TestCase):
    async def open(self):
        return Tallied(MemoryStore(2 << 20, 512))
