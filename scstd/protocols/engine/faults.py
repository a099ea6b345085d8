# SPDX-License-Identifier: MIT
"""
Faults on purpose, to see how initiators bear them: SCST's black_hole and iSCSI-SCST's
DEBUG_DIGEST_FAILURES, as attributes of a target that act at once.  A group of
initiators may have its own.

A black hole takes commands and never answers them.  They count as arrived, and do not
fill the window: an initiator finds a target that is alive and a disk that is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from scstd.protocols.engine.tapped import Digest, Onward, Tap, TappedPDU
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, RESERVED_TAG
from scstd.protocols.wire.pdu import SCSICommand, TaskManagementRequest

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection


class BlackHole(IntEnum):
    """
    What a black hole takes (SCST's values).
    """

    NOTHING = 0
    COMMANDS = 1
    COMMANDS_AND_MANAGEMENT = 2
    DATA_COMMANDS = 3
    DATA_COMMANDS_AND_MANAGEMENT = 4


DATA_COMMANDS = frozenset(bytes.fromhex("080a 282a2e2f 41425388898a8b8e8f93 a8aaaeaf"))
"""Operation codes of the commands that read, write, compare or unmap blocks."""


FIELDS = {"black_hole": "black_hole", "DigestFailures": "digest_failures"}
"""The fields of `Faults` by the names of their attributes."""


@attrs.define(eq=False)
class Faults:
    """
    The faults of one target; *digest_failures* is one in so many PDUs, 0 for none.
    """

    black_hole: int = BlackHole.NOTHING
    digest_failures: int = 0
    chance: Callable[[], float] = random.random

    def but(self, values: Mapping[str, Any]) -> Faults:
        """
        Return these faults with those attributes in their place that are set in
        *values*.
        """
        own = {
            field: values[name]
            for name, field in FIELDS.items()
            if values.get(name) is not None
        }
        return attrs.evolve(self, **own) if own else self

    def tap(self, connection: Connection) -> Tap | None:
        """
        Return the tap that has these faults on a connection, or None without faults.
        """
        if not self.black_hole and not self.digest_failures:
            return None
        return partial(self._fail, connection)

    def _fail(self, connection: Connection, passing: TappedPDU, go_on: Onward) -> None:
        if self.digest_failures and self.chance() * self.digest_failures < 1:
            if passing.data_digest:
                passing.data_digest = Digest.WRONG
            elif passing.header_digest:
                passing.header_digest = Digest.WRONG
        if passing.header_digest is Digest.WRONG or not (
            self.black_hole and self._swallows(connection, passing.pdu)
        ):
            go_on(passing)

    def _swallows(self, connection: Connection, pdu: Any) -> bool:
        hole = self.black_hole
        if isinstance(pdu, SCSICommand):
            if hole >= BlackHole.DATA_COMMANDS and pdu.cdb[0] not in DATA_COMMANDS:
                return False
            session = connection.session
            if session is not None and not pdu.flags & FINAL:
                session.writes.abandoned.add(pdu.itt, {RESERVED_TAG})
        elif not isinstance(pdu, TaskManagementRequest) or hole not in {
            BlackHole.COMMANDS_AND_MANAGEMENT,
            BlackHole.DATA_COMMANDS_AND_MANAGEMENT,
        }:
            return False
        if not pdu.first & IMMEDIATE and connection.window.accepts(pdu.cmd_sn):
            connection.ordering.skip(connection, pdu.cmd_sn)
        return True
