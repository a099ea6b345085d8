# SPDX-License-Identifier: MIT
"""
No character of a peer works a terminal or ends a line, wherever it is shown
(`scstd.printable`).
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.connection import on_the_wire
from scstd.management.cli.events import line
from scstd.management.cli.tools import table
from scstd.management.monitor.logs import as_json, as_text, prioritized
from scstd.printable import printable, printable_lines
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.wire.pdu import LoginRequest
from scstd.test.initiator import INITIATOR, TARGET, serve
from scstd.test.stores import memory

NASTY = "".join(map(chr, (*range(32), *range(0x7F, 0xA0)))) + (
    "\u2028\u2029\u200e\u200f\u202a\u202e\u2066\u2069\ufeff\ud800\U000e0001"
)


def event(**fields: Any) -> Any:
    """Return an event of ours."""
    return {
        "log_format": " ".join(f"{{{name}}}" for name in fields),
        "log_level": LogLevel.warn,
        "log_namespace": "scstd.x",
        "log_time": 0.0,
        **fields,
    }


class PrintableTests(SynchronousTestCase):
    """
    Each way on which something is shown.
    """

    def test_each(self) -> None:
        """Each of them is escaped; what people write in their languages is not."""
        for one in NASTY:
            self.assertTrue(printable(one).isascii(), ascii(one))
            self.assertTrue(printable(one).isprintable(), ascii(one))
        same = "gr\u00fcn \u65e5\u672c \u05d0 '\\"
        self.assertEqual(printable(same), same)
        self.assertEqual(printable_lines("a\tb\n\x1bc"), "a   b\n\\x1bc")

    def test_logs(self) -> None:
        """A field, or an exception, is on the one line of its event in every form."""
        for fields in (
            {"said": NASTY},
            {"error": ValueError(NASTY)},
            {"log_text": NASTY},
        ):
            found = event(**fields)
            for form in (as_text, as_json, prioritized):
                shown = form(found)
                self.assertTrue(shown.endswith("\n"))
                self.assertTrue(shown[:-1].isprintable(), (form, shown))

    def test_fields_of_json(self) -> None:
        """What a program prints of a JSON object is printable, too."""
        found = json.loads(as_json(event(said=NASTY, error=ValueError(NASTY))))
        self.assertTrue(found["message"].isprintable())
        for value in found["fields"].values():
            self.assertTrue(value.isprintable())

    def test_failures(self) -> None:
        """So is every line of a traceback."""
        found = event(said="x", log_failure=Failure(ValueError(NASTY)))
        for shown in as_text(found).split("\n"):
            self.assertTrue(shown.lstrip("\t").isprintable(), shown)
        told = json.loads(as_json(found))["traceback"]
        self.assertTrue(all(map(str.isprintable, told.split("\n"))))

    def test_attributes_of_exceptions(self) -> None:
        """What an event shows of an exception is what it has."""
        found = event(error=OSError(5, "broken\x1b"))
        found["log_format"] = "{error.errno} {error.strerror}"
        self.assertIn("5 broken\\x1b", as_text(found))

    def test_lists(self) -> None:
        """Tables and events of scstadmin are printable."""
        for shown in table(("A", "B"), [(NASTY, 1)]).split("\n"):
            self.assertTrue(shown.isprintable())
        told = {"time": 0.0, "event": "LOGIN_REFUSED", "reason": NASTY}
        self.assertTrue(line(told).isprintable())

    def test_login(self) -> None:
        """Names, keys and values of a login that is refused reach no log as they are."""
        said: list[Any] = []
        observer: Any = said.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        node, _target, _units = serve(memory())
        told: list[Any] = []

        def report(_name: str, /, **fields: Any) -> None:
            told.append(fields)

        node.report = report
        nasty = NASTY.replace("\0", "").replace("\ud800", "")[:60].encode()
        names = f"InitiatorName={INITIATOR}\0TargetName={TARGET}\0".encode()
        for text in (
            b"InitiatorName=iqn.2026-11.x:" + nasty + b"\0",
            names + nasty + b"=1\0" + nasty + b"=1\0",
            names + nasty + b"\0",
            names + b"MaxRecvDataSegmentLength=" + nasty + b"\0",
            names + b"SessionType=" + nasty + b"\0",
            names + b"AuthMethod=" + nasty + b"\0",
            names + b"CHAP_A=" + nasty + b"\0",
        ):
            factory = ISCSITargetFactory(node, Clock())
            protocol: Any = factory.buildProtocol(None)
            protocol.makeConnection(StringTransport())
            for flags in (0x87, 0x81):
                request = LoginRequest(flags=flags, isid=b"\x80\0\0\0\0\1", data=text)
                protocol.dataReceived(on_the_wire(request, False, False))
        self.assertGreater(len(told), 5)
        for fields in told:
            self.assertTrue(str(fields.get("reason", "")).isprintable(), fields)
        for one in said:
            self.assertTrue(as_text(one)[:-1].isprintable())
