# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.monitor.event_log`, and for the log of real sessions as a person, and
a program, reads it.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.initiator.blocking import BlockingSession, name_of
from scstd.management.monitor import event_log
from scstd.management.monitor.event_log import BURST, LINES, LONGEST, PERIOD, Chronicle
from scstd.management.monitor.events import EVENTS, Hub
from scstd.management.monitor.logs import as_json, as_text, is_news, timestamp
from scstd.printable import printable
from scstd.protocols.wire.digest import digest
from scstd.protocols.wire.pdu import LoginRequest, SCSICommand
from scstd.test.serving import Server

REFUSED = {
    "target": "iqn.t",
    "initiator": "iqn.i",
    "portal": "10.0.0.1:3260",
    "status": "0203",
    "reason": "no such target",
}


CONFIGURATION = """\
HANDLER memory {
    DEVICE d {
        size 1M
        filter "error on=read offset=8192 length=512"
    }
}
TARGET_DRIVER iscsi {
    enabled 1
    TARGET TARGET_NAME {
        enabled 1
        LUN 0 d
    }
}
"""


class Digested(BlockingSession):
    """
    A session with data digests.
    """

    def __init__(self, url: str, number: int) -> None:
        super().__init__(url, number, ("DataDigest", "CRC32C"))


class LimitTests(SynchronousTestCase):
    """
    Floods.
    """

    def setUp(self) -> None:
        """Have a chronicle whose time we make."""
        self.clock = Clock()
        self.chronicle = Chronicle(self.clock)
        self.hub = Hub(self.clock.seconds, listeners=[self.chronicle.heard])

    def refuse(self, port: int = 1, **more: Any) -> None:
        """Refuse a login."""
        self.hub.publish(
            "LOGIN_REFUSED", **{**REFUSED, **more}, peer=f"10.0.0.9:{port}"
        )

    def often(self, count: int) -> None:
        """Refuse so many logins."""
        for _each in range(count):
            self.refuse()

    def lines(self, call: Any) -> list[str]:
        """Return what is logged while something is done."""
        with capturedLogs() as logs:
            call()
        return [formatEvent(one) for one in logs]

    def test_few(self) -> None:
        """What happens now and then is a line each, at once."""
        for number in range(20):
            (line,) = self.lines(lambda port=number: self.refuse(port))
            self.assertEqual(
                line,
                f"login refused, status 0203: no such target (iqn.i from"
                f" 10.0.0.9:{number} to iqn.t at 10.0.0.1:3260)",
            )
            self.clock.advance(PERIOD / 2)

    def test_flood(self) -> None:
        """Of a flood some are written, then one line a period, with their number."""

        def flood() -> None:
            for port in range(1000):
                self.refuse(port)

        self.assertEqual(len(self.lines(flood)), BURST)
        (line,) = self.lines(lambda: self.clock.advance(PERIOD))
        self.assertIn("10.0.0.9:999", line)
        self.assertTrue(
            line.endswith(f"[the last of {1000 - BURST} like it in {PERIOD:.0f} s]")
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_longer(self) -> None:
        """A flood that goes on is told more and more seldom; an hour fills no log."""
        lines = []
        for _second in range(3600):
            lines += self.lines(self.refuse)
            lines += self.lines(lambda: self.clock.advance(1))
        self.assertLess(len(lines), 25)
        told = sum(
            int(found) for one in lines for found in re.findall(r"of (\d+) l", one)
        )
        lines = self.lines(lambda: self.clock.advance(LONGEST))
        told += sum(
            int(found) for one in lines for found in re.findall(r"of (\d+) l", one)
        )
        # Not one is missing.
        self.assertEqual(told + BURST, 3600)

    def test_quiet_again(self) -> None:
        """After a quiet period it is news again."""
        for _time in range(3):
            self.assertEqual(len(self.lines(lambda: self.often(9))), BURST)
            self.clock.advance(PERIOD)
            self.clock.advance(2 * PERIOD)

    def test_others(self) -> None:
        """One flood hides nobody else: another host, another initiator or reason."""
        self.lines(lambda: self.often(50))
        for more in ({"initiator": "iqn.other"}, {"status": "0201"}):
            self.assertEqual(len(self.lines(lambda more=more: self.refuse(**more))), 1)
        self.assertEqual(
            len(
                self.lines(
                    lambda: self.hub.publish(
                        "LOGIN_REFUSED", **REFUSED, peer="10.0.0.8:1"
                    )
                )
            ),
            1,
        )

    def test_many_kinds(self) -> None:
        """Who has another name each time takes no memory, and fills no log."""
        self.patch(event_log, "MOST_KINDS", 20)

        def flood() -> None:
            for number in range(1000):
                self.refuse(initiator=f"iqn.{number}")

        self.assertEqual(len(self.lines(flood)), 20 + BURST)
        self.assertLess(len(self.chronicle.limiter.floods), 22)
        # When they are quiet they are forgotten.
        self.clock.advance(LONGEST)
        self.refuse(initiator="iqn.new")
        self.assertLess(len(self.chronicle.limiter.floods), 22)

    def test_many_kinds_are_not_looked_through_in_vain(self) -> None:
        """
        Where there is room for no more kinds, all are looked at when one of them may
        have been quiet for long enough, and not with each event.
        """
        looks = []

        class Kinds(dict[Any, Any]):
            def items(self) -> Any:
                looks.append(len(self))
                return super().items()

        self.patch(event_log, "MOST_KINDS", 3)
        kinds = self.chronicle.limiter.floods = Kinds()
        for name in ("iqn.a", "iqn.b"):
            self.refuse(initiator=name)
        self.clock.advance(PERIOD / 2)
        self.refuse(initiator="iqn.c")
        for number in range(100):
            self.refuse(initiator=f"iqn.{number}")
        self.assertEqual(len(looks), 1)
        self.clock.advance(PERIOD / 2)
        # The first two are over, the third is not; what had no kind of its own goes on.
        self.refuse(initiator="iqn.d")
        self.assertEqual(len(looks), 2)
        named = sorted(kind[2] for kind in kinds if len(kind) > 1)
        self.assertEqual(named, ["iqn.c", "iqn.d"])

    def test_end(self) -> None:
        """What is held is written at the end, and nothing waits after it."""
        self.lines(lambda: self.often(50))
        (line,) = self.lines(self.chronicle.close)
        self.assertIn(f"the last of {50 - BURST} like it", line)
        # A store that hung may tell of its error later still.
        self.assertEqual(len(self.lines(lambda: self.often(20))), 20)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_clean(self) -> None:
        """What an initiator says cannot begin a line or work a terminal."""
        (line,) = self.lines(
            lambda: self.refuse(initiator="x\n2026 [fine] \x1b[2J\x9b")
        )
        self.assertIn(r"x\n2026 [fine] \x1b[2J\x9b from", line)

    def test_every_line(self) -> None:
        """Each row is of an event that there is."""
        self.assertEqual(set(LINES) - set(EVENTS), set())


class FormTests(SynchronousTestCase):
    """
    How a line looks.
    """

    def test_milliseconds(self) -> None:
        """The time is to the millisecond, never one too many."""
        for when, shown in ((0.0, "00.000"), (1.9999, "01.999"), (61.25, "01.250")):
            found = timestamp({"log_time": when})
            self.assertRegex(
                found, rf"^\d{{4}}-\d\d-\d\dT\d\d:\d\d:{shown}[+-]\d{{4}}$"
            )
        self.assertEqual(timestamp({}), "-")

    def test_clean(self) -> None:
        """No byte below a blank of a field is in a line; our own lines are indented."""
        event: Any = {
            "log_format": "{said}\n{error}",
            "error": ValueError("\x9b2J\u2028\u202e"),
            "said": "a\x00\x1b[31mb\r\nc\td\x7f",
            "log_level": LogLevel.warn,
            "log_namespace": "scstd.x",
            "log_time": 0.0,
        }
        said = as_text(event).partition("] ")[2]
        self.assertEqual(
            said, "a\\x00\\x1b[31mb\\r\\nc\\td\\x7f\n\t\\x9b2J\\u2028\\u202e\n"
        )
        raw = as_json(event)
        self.assertTrue(raw.rstrip("\n").isprintable())
        self.assertNotIn("\x7f", json.loads(raw)["fields"]["said"])
        self.assertEqual(printable("grün\n"), "grün\\n")

    def test_json(self) -> None:
        """Numbers are numbers, nothing is null, an error is its text."""
        event: Any = {
            "log_format": "{lba} {error} {none} {ratio}",
            "log_namespace": "scstd.x",
            "log_time": 0.0,
            "lba": 8,
            "error": OSError(5, "broken"),
            "none": None,
            "ratio": 0.5,
        }
        found = json.loads(as_json(event))["fields"]
        self.assertEqual(
            found, {"lba": 8, "error": "[Errno 5] broken", "none": None, "ratio": 0.5}
        )

    def test_noise(self) -> None:
        """What Twisted says of ports is left out, and nothing else that it says."""
        for namespace, text, news in (
            ("log_legacy", "ISCSITargetFactory starting on 3260", False),
            ("log_legacy", "ControlFactory starting on '/x/control'", False),
            ("log_legacy", "(TCP Port 3260 Closed)", False),
            ("log_legacy", "(UNIX Port '/x/control' Closed)", False),
            ("log_legacy", "failed to set uid/gid 1/1: no (are you root?)", True),
            ("scstd.x", "(TCP Port 3260 Closed)", True),
        ):
            said = is_news({"log_namespace": namespace, "log_format": text})
            self.assertEqual(said.name != "no", news, text)


class SessionLogTests(TestCase):
    """
    The log of sessions, from login to logout.
    """

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def live(self, *options: str) -> list[str]:
        """Have initiators come, meet trouble and go; return the lines of the log."""
        target = "iqn.2026-11.org.scstd:log"
        (self.directory / "scst.conf").write_text(
            CONFIGURATION.replace("TARGET_NAME", target)
        )
        with Server(
            *("--config", "scst.conf", *options),
            directory=str(self.directory),
            luns=0,
            wait_for="the control socket",
        ) as server:
            url = re.findall(r"iscsi://[\w.:/-]+", "".join(server.lines))[0]
            one = Digested(url, 1)
            one.do(bytes(6))
            self.unknown_lun(one)
            self.damaged(one)
            one.close()
            two = BlockingSession(url, 2)
            two.do(bytes(6))
            read = struct.pack(">BBIBHB", 0x28, 0, 16, 0, 1, 0)
            self.assertEqual(two.do(read, read=512).status, 2)
            two.logout()
            self.assertRaises(
                ConnectionError, BlockingSession, url.replace("log/", "nolog/"), 3
            )
            self.stranger(url.split("/")[2])
        return server.lines

    def unknown_lun(self, one: BlockingSession) -> None:
        """Ask for a LUN that there is not."""
        lun, one.lun = one.lun, 7
        self.assertEqual(one.do(bytes(6)).status, 2)
        one.lun = lun

    def damaged(self, one: BlockingSession) -> None:
        """Send data whose digest is wrong, and be answered."""
        cdb = struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 1, 0).ljust(16, b"\0")
        pdu = SCSICommand(
            flags=0xA1,
            itt=99,
            expected_data_transfer_length=512,
            cmd_sn=one.session.cmd_sn,
            cdb=cdb,
        )
        pdu.data = bytes(512)
        wrong = digest(bytes(512))[::-1]
        one.socket.sendall(pdu.encode() + bytes(512) + wrong)
        while one.receive().first not in {0x21, 0x3F}:
            pass

    def stranger(self, portal: str) -> None:
        """Have a name that would write a line of its own."""
        host, _colon, port = portal.rpartition(":")
        request = LoginRequest(flags=0x87, cmd_sn=1)
        request.data = b"InitiatorName=iqn.2026-11.org.x:\n1999 [forged]\x1b[2J\0"
        with socket.create_connection((host, int(port)), 60) as one:
            data = bytes(request.data)
            one.sendall(request.encode() + data + bytes(-len(data) % 4))
            while one.recv(4096):
                pass

    def test_text(self) -> None:
        """A person reads who came and left and why, and what went wrong, and where."""
        lines = [one.rstrip("\n") for one in self.live()]
        text = "\n".join(lines)
        name, target = name_of(1), "iqn.2026-11.org.scstd:log"
        where = r"127\.0\.0\.1:\d+"
        for form in (
            rf"{name} logged in to {target} from {where} at {where}, session \d+",
            rf"{name} asked {target} for LUN 7, which is not there for it",
            rf"{name}, session \d+ with {target}: wrong data digests from {where}, 1 PDUs"
            " were not taken",
            rf"{name} left {target}, session \d+ from {where}: the initiator closed the"
            r" connection \(\d+ commands in \d+ s\)",
            rf"{name_of(2)} left {target}, session \d+ from {where}: logged out \(",
            r"device d: READ\(10\), LBA 16, 1 blocks: Input/output error \(as configured\) \(sense 3/11/00;"
            rf" {name_of(2)}, LUN 0 of {target}\)",
            rf"login refused, status 0203: no target {target[:-3]}nolog for {name_of(3)}"
            rf" \({name_of(3)} from {where} to {target[:-3]}nolog at {where}\)",
        ):
            self.assertRegex(text, form)
        time = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} \[\S+\] "
        for line in lines:
            self.assertRegex(line, time)
        self.assertNotIn("starting on", text)
        self.assertNotIn("Closed)", text)
        self.assertTrue(all(one.isprintable() for one in lines))

    def test_json(self) -> None:
        """A program reads the same, in fields; numbers are numbers."""
        found = [json.loads(line) for line in self.live("--log-format", "json")]
        fields = {one["fields"]["event"]: one["fields"] for one in found
                  if "event" in one.get("fields", {})}  # fmt: skip
        error = fields["IO_ERROR"]
        self.assertEqual(
            {
                name: error[name]
                for name in ("lba", "blocks", "lun", "command", "device")
            },
            {"lba": 16, "blocks": 1, "lun": 0, "command": "READ(10)", "device": "d"},
        )
        self.assertEqual((error["initiator"], error["sense"]), (name_of(2), "3/11/00"))
        closed = fields["SESSION_CLOSED"]
        for name, kind in (("tsih", int), ("commands", int), ("seconds", float)):
            self.assertIs(type(closed[name]), kind)
        self.assertEqual(fields["LUN_NOT_FOUND"]["lun"], 7)
        self.assertEqual(fields["DIGEST_FAILED"]["count"], 1)
