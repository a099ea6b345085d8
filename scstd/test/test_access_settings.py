# SPDX-License-Identifier: MIT
"""
Tests for who may log in, as it is configured: accounts, portals, redirection.
"""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.protocols.attributes.accounts import check_accounts
from scstd.protocols.attributes.kinds import Account, Algorithms, Redirect
from scstd.protocols.driver import ATTRIBUTES, TARGET_ATTRIBUTES, ISCSIDriver
from scstd.protocols.engine.access_control import (
    AccessControl,
)
from scstd.scsi.target import Target
from scstd.secret import secret
from scstd.test.clients import need
from scstd.test.initiator import TARGET
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_access import JOE, OURS
from scstd.test.test_real_initiators import call


class SettingsTests(SynchronousTestCase):
    """
    What people write.
    """

    def test_account(self) -> None:
        """A name and a secret that is long enough."""
        self.assertEqual(Account().parse("joe twelve-bytes-"), JOE)
        for text in ("joe", "joe short", "a b c", ""):
            self.assertRaises(ConfigurationError, Account().parse, text)

    def test_both_directions(self) -> None:
        """One secret for both directions, or a user twice, is refused."""
        check_accounts((JOE,), OURS)
        for incoming in ((JOE, ("us", OURS[1])), (JOE, JOE)):
            self.assertRaises(ConfigurationError, check_accounts, incoming, OURS)

    def driver(self) -> ISCSIDriver:
        """Return a driver with two targets."""
        defaults = {row.name: () if row.repeats else row.default for row in ATTRIBUTES}
        driver = ISCSIDriver(Clock(), defaults)
        for name in ("a", "b"):
            rows = {
                row.name: () if row.repeats else row.default
                for row in TARGET_ATTRIBUTES
            }
            driver.add_target(Target(name), rows)
        return driver

    def test_one_secret_of_two(self) -> None:
        """Users who share a secret are warned of, over all targets and discovery; and
        so is a secret for both directions (RFC 7143 section 9.2.1).
        """
        driver = self.driver()
        driver.set_attribute("a", "IncomingUser", (JOE,))
        driver.set_attribute("b", "IncomingUser", (JOE,))
        driver.set_attribute("a", "OutgoingUser", OURS)
        with capturedLogs() as logs:
            driver.set("OutgoingUser", OURS)
            self.assertEqual(len(logs), 0)
            driver.set("IncomingUser", (("ann", JOE[1]),))
            driver.set("IncomingUser", ())
            driver.set("OutgoingUser", None)
            driver.set_attribute("b", "IncomingUser", (("joe", OURS[1]),))
        said = [formatEvent(event) for event in logs]
        self.assertEqual(
            said,
            [
                "IncomingUser ann and IncomingUser joe have one secret",
                "OutgoingUser target and IncomingUser joe have one secret",
            ],
        )

    def test_new_secret(self) -> None:
        """A secret that is made here is random, and long enough (section 9.2.1)."""
        found = {secret() for _number in range(20)}
        self.assertEqual(len(found), 20)
        for one in found:
            self.assertEqual(len(bytes.fromhex(one)) * 8, 128)
            self.assertEqual(Account().parse(f"joe {one}"), ("joe", one))
        done = run(
            [sys.executable, "-m", "scstd.secret"],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(len(done.stdout.strip()), 32)

    def test_redirect(self) -> None:
        """An address, perhaps a port, and for how long."""
        kind = Redirect()
        for text, address, permanent in (
            ("192.0.2.1 temp", "192.0.2.1:3260", False),
            ("[2001:db8::1]:9 perm", "[2001:db8::1]:9", True),
        ):
            found = kind.parse(text)
            assert found is not None
            self.assertEqual((found.address, found.permanent), (address, permanent))
            self.assertEqual(kind.parse(kind.render(found)), found)
        self.assertIdentical(kind.parse(""), None)
        self.assertRaises(ConfigurationError, kind.parse, "192.0.2.1 later")

    def test_algorithms(self) -> None:
        """A list of names."""
        self.assertEqual(Algorithms().parse("sha-256, MD5"), ("SHA-256", "MD5"))
        self.assertRaises(ConfigurationError, Algorithms().parse, "rot13")
        self.assertEqual(
            AccessControl().algorithms, ("MD5", "SHA1", "SHA-256", "SHA3-256")
        )


CONFIGURATION = """\
HANDLER memory {{
    DEVICE d {{ size 8M }}
}}
TARGET_DRIVER iscsi {{
    enabled 1
    {discovery}
    TARGET {target} {{
        enabled 1
        LUN 0 d
        {attributes}
    }}
}}
"""


class RealTests(TestCase):
    """
    Real initiators prove who they are.
    """

    timeout = 120

    def served(self, attributes: str, discovery: str = "") -> Any:
        """Return a server with these attributes of its target."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        text = CONFIGURATION.format(
            target=TARGET, attributes=attributes, discovery=discovery
        )
        (directory / "scst.conf").write_text(text)
        return Server("--config", "scst.conf", directory=str(directory))

    def test_chap(self) -> None:
        """Libiscsi and QEMU log in with the secret, and not without; both directions."""
        need("iscsi-inq", "qemu-io")
        accounts = f'IncomingUser "{JOE[0]} {JOE[1]}"\nOutgoingUser "us {OURS[1]}"'
        with self.served(accounts) as server:
            url = server.url.replace("iscsi://", f"iscsi://{JOE[0]}%{JOE[1]}@")
            self.assertIn("SCSTD", call("iscsi-inq", url))
            mutual = f"{url}?target_user=us&target_password={OURS[1]}"
            self.assertIn("SCSTD", call("iscsi-inq", mutual))
            call("qemu-io", "-f", "raw", "-c", "read 0 4k", url)
            for wrong in (
                server.url,
                url.replace(JOE[1], "something-else"),
                mutual.replace(OURS[1], "something-else"),
            ):
                self.assertRaises(AssertionError, call, "iscsi-inq", wrong)
        self.assertNotIn(JOE[1], server.log())

    def test_redirect(self) -> None:
        """A real initiator follows a redirection."""
        need("iscsi-inq")
        with (
            self.served("") as goal,
            self.served(f"redirect {goal.portal} temp") as first,
        ):
            self.assertIn("SCSTD", call("iscsi-inq", first.url))
        self.assertIn("logged in", goal.log())
        self.assertNotIn("logged in", first.log())

    def test_discovery(self) -> None:
        """A real initiator discovers with the account for that."""
        need("iscsi-ls")
        user = f'IncomingUser "{JOE[0]} {JOE[1]}"'
        with self.served("", user) as server:
            url = f"iscsi://{JOE[0]}%{JOE[1]}@{server.portal}"
            self.assertIn(TARGET, call("iscsi-ls", url, timeout=PATIENCE))
            self.assertRaises(
                AssertionError,
                call,
                "iscsi-ls",
                f"iscsi://{server.portal}",
                timeout=PATIENCE,
            )
