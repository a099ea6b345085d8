# SPDX-License-Identifier: MIT
"""
Two iSCSI nodes of one process as the front and a worker, for tests of the handover.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred

from scstd.protocols.adoption import Handed, adopt
from scstd.protocols.handover import Door
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import serve
from scstd.test.stores import memory


class Divided:
    """
    A front that listens, and a worker that has the disk; *given* is what was handed
    over, *refusal* why the next is not taken, and *hold* has it wait (`pending`).
    """

    def __init__(self) -> None:
        self.given: list[Handed] = []
        self.refusal: Exception | None = None
        self.hold = False
        self.pending: list[Deferred[None]] = []
        listener: Any = reactor
        self.front_node, _target, _units = serve(memory())
        self.node, self.target, units = serve(memory())
        self.unit: LogicalUnit = units[0]
        self.door = Door(self.give)
        self.front = ISCSITargetFactory(
            self.front_node, listener, protocol=self.door.doorman
        )
        self.worker = ISCSITargetFactory(self.node, listener)
        self.worker.doStart()

    def give(self, target: str, handed: Handed, descriptor: int) -> Deferred[None]:
        """
        Hand over what a `Doorman` gives.
        """
        assert target == self.target.name
        self.given.append(handed)
        if self.refusal is not None:
            raise self.refusal
        copy = os.dup(descriptor)
        waiting: Deferred[None] = Deferred()
        waiting.addCallback(
            lambda _none: maybeDeferred(adopt, self.worker, handed, copy)
        )
        if self.hold:
            self.pending.append(waiting)
        else:
            waiting.callback(None)
        return waiting
