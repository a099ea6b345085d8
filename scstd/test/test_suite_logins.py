# SPDX-License-Identifier: MIT
"""
libiscsi's cases about iSCSI itself, logged in in every way that libiscsi knows: with
and without CHAP (it has MD5), one way and mutual, with and without header digests.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import TestCase

from scstd.test.clients import need
from scstd.test.serving import Server
from scstd.test.setups import must_pass
from scstd.test.suite import Outcome, cases, run_case

CONFIGURATION = """\
HANDLER memory {{
    DEVICE d {{
        size 256M
    }}
}}
TARGET_DRIVER iscsi {{
    enabled 1
    TARGET iqn.2026-11.org.scstd:logins {{
        enabled 1
        LUN 0 d
        {accounts}
    }}
}}
"""

ACCOUNTS = {
    "nobody": ("", "{url}", ""),
    "one way": (
        "IncomingUser joe twelve-bytes-",
        "iscsi://joe%twelve-bytes-@{rest}",
        "",
    ),
    "mutual": (
        "IncomingUser joe twelve-bytes-\nOutgoingUser us another-twelve",
        "iscsi://joe%twelve-bytes-@{rest}",
        "target_user=us&target_password=another-twelve",
    ),
}
"""Ways to prove oneself: attributes of the target, the URL, parameters of it."""

DIGESTS = ("", "header_digest=crc32c")


class LoginTests(TestCase):
    """
    Every way in.
    """

    timeout = 300

    def family(self, way: str, digest: str, directory: Path) -> list[Outcome]:
        """Run the iSCSI family, logged in this way; return how its cases ended."""
        attributes, form, parameters = ACCOUNTS[way]
        directory.mkdir(parents=True)
        text = CONFIGURATION.format(accounts=attributes)
        (directory / "scst.conf").write_text(text)
        with Server("--config", "scst.conf", directory=str(directory)) as server:
            url = form.format(url=server.url, rest=server.url.removeprefix("iscsi://"))
            words = "&".join(word for word in (parameters, digest) if word)
            if words:
                url += "?" + words
            return [
                run_case(case, [url])
                for case in cases()
                if case.startswith("iSCSI.") and must_pass(case, "plain")
            ]

    def test_every_way(self) -> None:
        """Every case of the family passes, however one has logged in."""
        need("iscsi-test-cu")
        base = Path(self.mktemp()).absolute()
        ways = list(itertools.product(ACCOUNTS, DIGESTS))
        with ThreadPoolExecutor(len(ways)) as pool:
            running = [
                pool.submit(self.family, way, digest, base / str(number))
                for number, (way, digest) in enumerate(ways)
            ]
            found = [one.result() for one in running]
        wrong = [
            f"{way}, {digest}: {one.case} {one.verdict}: {one.why}"
            for (way, digest), outcomes in zip(ways, found, strict=True)
            for one in outcomes
            if one.verdict != "passed"
        ]
        self.assertEqual(wrong, [])
        self.assertGreater(min(map(len, found)), 10)
