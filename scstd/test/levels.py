# SPDX-License-Identifier: MIT
"""
What tests of error recovery share: a session at a level, a store with a pattern.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import (
    FINAL,
    RESERVED_TAG,
    SNACKType,
)
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import (
    SNACKRequest,
)
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory

PATTERN = bytes(range(256)) * 256


class Level(SynchronousTestCase):
    """
    A session at an error recovery level.
    """

    level = "1"
    store: Any

    def setUp(self) -> None:
        """Log in to a store with the pattern in it."""
        self.store = self.make_store()
        local = {
            **LOCAL,
            "ErrorRecoveryLevel": 2,
            "MaxConnections": 8,
            "DefaultTime2Retain": 20,
        }
        self.limits = TargetSettings(local=local)
        self.node, _target, (self.unit,) = serve(self.store, limits=self.limits)
        self.one = Initiator(self.node).ready(
            ErrorRecoveryLevel=self.level,
            MaxConnections="8",
            MaxRecvDataSegmentLength="1024",
            MaxBurstLength="4096",
            DataDigest="CRC32C",
            DefaultTime2Wait="0",
            DefaultTime2Retain="20",
        )
        (self.session,) = self.node.sessions()

    def make_store(self) -> Any:
        """Return the store."""
        store = memory()
        store.write(0, PATTERN, False)
        return store

    def snack(
        self, kind: SNACKType, begin: int = 0, length: int = 0, **fields: Any
    ) -> list[Any]:
        """Send a SNACK; return what comes."""
        pdu = SNACKRequest(
            flags=FINAL | kind,
            itt=RESERVED_TAG,
            begin_run=begin,
            run_length=length,
            exp_stat_sn=self.known,
        )
        for name, value in fields.items():
            setattr(pdu, name, value)
        self.one.send(pdu)
        return self.one.receive()

    known = 0

    def read(self, blocks: int, **fields: Any) -> tuple[Any, list[Any]]:
        """Read from the start; return the command and what came."""
        self.known = self.one.exp_stat_sn
        pdu = self.one.command(read10(0, blocks), read=blocks * 512)
        self.one.send(pdu)
        return pdu, self.one.receive()

    @property
    def kept(self) -> Any:
        """What the connection keeps."""
        recovery = self.one.connection.recovery
        assert recovery is not None
        return recovery
