# SPDX-License-Identifier: MIT
"""
Who may assign the fields of a connection, and of a session: their own methods.
"""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.session import Session
from scstd.test.ownership import assigned, assignments

FIELDS = {field.name for one in (Connection, Session) for field in attrs.fields(one)}

OTHERS = {"answer", "framer", "passing", "pdu", "reply", "task"}
"""What variables of other objects are called, that have fields of the same names."""

BY_NAME = {"attributes/tables.py", "wire/parameters.py"}
"""Where ``setattr`` is for the rows of a table: of settings, and of parameters."""

DELIBERATE = {
    # The data path: a call for each status would cost a hundredth of it.
    "engine/response.py": {"connection.stat_sn"},
    "engine/express.py": {
        "connection.output_bytes",
        "connection.stat_sn",
        "session.commands",
        "session.read_bytes",
        "writes.commands",
    },
}
"""Others, and why."""


class OwnershipTests(SynchronousTestCase):
    """
    A connection and a session are changed by their own methods.
    """

    def test_looks(self) -> None:
        """Each way to assign a field is found."""
        for source in (
            "connection.phase = 1",
            "a, self.connection.phase = b",
            "connection.phase += 1",
            "connection.phase: int = 1",
            "del one.phase",
            "for connection.phase in (): pass",
            "with x as connection.phase: pass",
            "*connection.phase, a = b",
            "setattr(connection, name, 1)",
            "vars(connection)['pass_on'] = f",
        ):
            self.assertEqual(len(assigned(source, FIELDS)), 1, source)
        for source in ("self.phase = 1", "connection.logouts.add(1)", "x.other = 1"):
            self.assertEqual(assigned(source, FIELDS), set(), source)

    def test_nobody_else(self) -> None:
        """No module assigns a field from outside, but for the one that has a reason."""
        found = {
            name: {one for one in fields if one.split(".")[-2] not in OTHERS}
            for name, fields in assignments("protocols", FIELDS).items()
            if name not in BY_NAME
        }
        self.assertEqual(
            {name: found[name] for name in found if found[name]}, DELIBERATE
        )
