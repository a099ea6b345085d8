# SPDX-License-Identifier: MIT
"""
Tests for `scstd.tap`: the options of ``twistd scst-iscsi``.
"""

from __future__ import annotations

import resource
from pathlib import Path

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.management.model.portals import endpoints, listening
from scstd.process.open_files import more_files
from scstd.tap import Options, split_device


class OptionsTests(SynchronousTestCase):
    """
    What a person may type.
    """

    def parsed(self, *words: str) -> Options:
        """Parse a command line."""
        options = Options()
        options.parseOptions(list(words))
        return options

    def refused(self, *words: str) -> str:
        """Return why a command line is refused."""
        return str(self.assertRaises(UsageError, self.parsed, *words))

    def test_devices(self) -> None:
        """Devices become LUN 0, 1, ... of one enabled target, files after them."""
        found = self.parsed(
            "--device",
            "d0=memory:size=64M",
            "--device",
            "d1=vdisk_nullio",
            "--target",
            "iqn.2026-11.org.scstd:t",
            "some.img",
        )["settings"].configuration
        (target,) = found.drivers[0].targets
        self.assertEqual(
            [(one.lun, one.device) for one in target.luns],
            [(0, "d0"), (1, "d1"), (2, "some")],
        )
        self.assertTrue(target.values["enabled"] and found.drivers[0].values["enabled"])
        self.assertEqual(found.devices[2].values["filename"], "some.img")

    def test_escapes(self) -> None:
        """A backslash takes a colon's meaning away, as in endpoint strings."""
        self.assertEqual(
            split_device(r"d=vdisk_fileio:filename=a\:b\\c:read_only:size=1G"),
            (
                "d",
                "vdisk_fileio",
                [("filename", r"a:b\c"), ("read_only", "1"), ("size", "1G")],
            ),
        )

    def test_endpoints(self) -> None:
        """Addresses become endpoint strings; endpoint strings stay what they are."""
        for where, expected in (
            ("127.0.0.1:3260", "tcp:3260:interface=127.0.0.1"),
            ("[::1]:0", r"tcp6:0:interface=\:\:1"),
            (":3260", "tcp:3260"),
            ("*:3260", "tcp:3260"),
            ("localhost:99", "tcp:99:interface=localhost"),
            ("tcp:3260:backlog=5", "tcp:3260:backlog=5"),
            ("unix:/run/x", "unix:/run/x"),
        ):
            self.assertEqual(endpoints(where), expected)
        for where in ("127.0.0.1", "host:70000", "::1:3260", "[::1]"):
            self.assertRaises(ConfigurationError, endpoints, where)

    def test_listening(self) -> None:
        """Where it listens is shown as a person may write it."""
        for address, shown in (
            (IPv4Address("TCP", "127.0.0.1", 3260), "127.0.0.1:3260"),
            (IPv6Address("TCP", "::1", 3260), "[::1]:3260"),
        ):
            self.assertEqual(listening(address), shown)
            endpoints(shown)

    def test_default_endpoint(self) -> None:
        """Without a configuration file only this machine is let in."""
        settings = self.parsed("--device", "d=memory:size=1M")["settings"]
        self.assertEqual(
            (settings.listen, settings.default["iscsi"]),
            ({}, ["tcp:3260:interface=127.0.0.1"]),
        )
        path = self.mktemp()
        Path(path).write_text("TARGET_DRIVER iscsi {\n enabled 1\n}\n")
        (where,) = self.parsed("--config", path)["settings"].default["iscsi"]
        self.assertIn("3260", where)
        self.assertNotIn("127.0.0.1", where)

    def test_listen_driver(self) -> None:
        """--listen names the driver that is meant, or means the default one."""
        words = ("--device", "d=memory:size=1M", "--listen")
        for given in ("127.0.0.1:99", "iscsi=127.0.0.1:99", "iscsi=tcp:99"):
            settings = self.parsed(*words, given)["settings"]
            self.assertEqual(list(settings.listen), ["iscsi"])
            (where,) = settings.listen["iscsi"]
            self.assertTrue(where.startswith("tcp:99"), where)

    def test_state_keys(self) -> None:
        """Devices of one name for different files are different devices."""
        keys = {
            self.parsed("--device", f"d=vdisk_fileio:filename={name}:size=1M")[
                "settings"
            ]
            .configuration.devices[0]
            .state_key
            for name in ("a.img", "b.img", "./a.img")
        }
        self.assertEqual(len(keys), 2)

    def test_order(self) -> None:
        """Options may stand behind files, and a file may be named like an option."""
        path = self.mktemp()
        Path(path).touch()
        for words in (
            (path, "--target", "iqn.2026-01.org.x:t", "-l", "127.0.0.1:99"),
            ("--target=iqn.2026-01.org.x:t", path, "--listen=127.0.0.1:99"),
        ):
            options = self.parsed(*words)
            self.assertEqual(options["files"], [path])
            self.assertEqual(options["target"], "iqn.2026-01.org.x:t")
            self.assertEqual(options["listen"], ["127.0.0.1:99"])
        self.assertEqual(self.parsed("--", "--target")["files"], ["--target"])
        self.assertIn("--nosuch", self.refused(path, "--nosuch"))

    def test_help(self) -> None:
        """Help is told without holes, and examples as a person would type them."""
        shown = Options().getUsage(80)
        self.assertIn("\n  twistd -n scst-iscsi disk.img\n", shown)
        self.assertNotRegex(shown, r"in {2,}this order")

    def test_more_files(self) -> None:
        """The process may have more open files than shells usually allow."""
        limits = [(1024, 4096), (1024, resource.RLIM_INFINITY), (70000, 90000)]
        given: list[tuple[int, tuple[int, int]]] = []
        self.patch(resource, "getrlimit", lambda _which: limits.pop(0))
        self.patch(resource, "setrlimit", lambda *what: given.append(what))
        while limits:
            more_files()
        self.assertEqual(
            [limit for _which, limit in given],
            [(4096, 4096), (65536, resource.RLIM_INFINITY)],
        )

    def test_refused(self) -> None:
        """What makes no sense is refused in one line."""
        for words, why in (
            ((), "nothing to serve"),
            (("--device", "d0"), "expected NAME=HANDLER"),
            (("--device", "d0=nosuch"), "unknown device handler 'nosuch'"),
            (("--device", "d0=memory"), "'size' is missing"),
            (("--device", "d0=memory:sice=1M"), "did you mean 'size'?"),
            (("--device", "d0=memory:size=1Q"), "expected a number of bytes"),
            (("--device", "d=memory:size=1M", "--device", "d=vdisk_nullio"), "two"),
            (("--device", "d=memory:size=1M", "--target", "x"), "no iSCSI name"),
            (("--device", "d=memory:size=1M", "--listen", "x"), "ADDRESS:PORT"),
            (
                ("--device", "d=memory:size=1M", "--listen", "iscsy=:1"),
                "did you mean 'iscsi'?",
            ),
            (
                ("--device", "d=memory:size=1M", "--driver", "iscsy"),
                "did you mean 'iscsi'?",
            ),
            (("--device", "d=memory:size=1M", "--manhole", ":22"), "no password"),
            (("\udcff.img",), "expected UTF-8"),
            (("--device", "d=vdisk_fileio:filename=\udcff"), "expected UTF-8"),
            (("--config", "x", "disk.img"), "no --device"),
        ):
            self.assertIn(why, self.refused(*words), words)
