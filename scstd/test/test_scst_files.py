# SPDX-License-Identifier: MIT
"""
What SCST's tool and its users write otherwise than we do, taken as SCST takes it: each
kind in files, and where a person says the same by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.management.config.reading import read_file_and_warn
from scstd.management.grammar import scst_dialect, scst_words
from scstd.management.model.configuration import Configuration
from scstd.management.model.device_attributes import device_rows
from scstd.management.model.warnings import hearing
from scstd.plugin import find_device_handler, find_target_driver
from scstd.protocols.attributes.tables import MOST
from scstd.protocols.target_names import target_name
from scstd.test.generating import examples
from scstd.test.initiator import Initiator
from scstd.test.test_tree import started

IQN = "iqn.2006-10.net.vlnb:tgt"


class FileCase(SynchronousTestCase):
    """
    Reads files that are written here.
    """

    def read(self, text: str | bytes) -> tuple[Configuration, list[str]]:
        """Return what a file configures, and the warnings without its name."""
        path = Path(self.mktemp())
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        found, warnings = read_file_and_warn(str(path))
        return found, [one.removeprefix(f"{path}:") for one in warnings]

    def wrong(self, text: str | bytes) -> str:
        """Return what is said to be wrong with a file."""
        return str(self.assertRaises(ConfigurationError, self.read, text))

    @staticmethod
    def target(lines: str, name: str = IQN) -> str:
        """Return a file with a target."""
        return f"TARGET_DRIVER iscsi {{\nTARGET {name} {{\n{lines}\n}}\n}}\n"

    @staticmethod
    def device(lines: str, handler: str = "memory") -> str:
        """Return a file with a device."""
        return f"HANDLER {handler} {{\nDEVICE d {{\n{lines}\n}}\n}}\n"


class NameTests(FileCase):
    """
    Names of targets.
    """

    def test_capitals(self) -> None:
        """Capital letters are small ones, in target groups too, with a warning each."""
        found, warnings = self.read(
            self.target("enabled 1", "iqn.2004-04.com.qnap:TS-459:A1")
            + "DEVICE_GROUP g {\nTARGET_GROUP a {\ngroup_id 1\n"
            "TARGET iqn.2004-04.com.qnap:TS-459:A1\n}\n}\n"
        )
        name = "iqn.2004-04.com.qnap:ts-459:a1"
        self.assertEqual([one.name for one in found.drivers[0].targets], [name])
        self.assertEqual(list(found.device_groups[0].groups[0].ports), [name])
        (said,) = warnings
        self.assertIn("2:8: 'iqn.2004-04.com.qnap:TS-459:A1': its capital", said)

    def test_not_by_the_standard(self) -> None:
        """What SCST takes and the standard does not is taken, with a warning."""
        for name in ("iqn.2012-11.com.a:share_vms", "iqn.2015-1.workgroup:raid"):
            found, warnings = self.read(self.target("enabled 1", name))
            self.assertEqual([one.name for one in found.drivers[0].targets], [name])
            self.assertIn(f"2:8: '{name}': it is no iSCSI name (RFC 7143", warnings[0])

    def test_no_name(self) -> None:
        """What no initiator could ask for, or no path have, stays a mistake."""
        for name in (
            "disk1",
            "iqn.2012-11.com.a:b/c",
            "iqn",
            f"iqn.2012-11.{'a' * 230}",
        ):
            self.assertIn("is no iSCSI name", self.wrong(self.target("", name)))
            self.assertRaises(ConfigurationError, target_name, name)

    def test_twice(self) -> None:
        """Two names that are one to initiators are two targets of one name."""
        text = f"TARGET_DRIVER iscsi {{\nTARGET {IQN}\nTARGET {IQN.upper().replace('IQN', 'iqn')}\n}}\n"
        self.assertIn(":3:8: ", self.wrong(text))

    def test_initiator_twice(self) -> None:
        """An initiator that is in its group twice is in it once."""
        found, warnings = self.read(
            self.target(
                "GROUP g {\nINITIATOR *\nINITIATOR *\n}\nGROUP h {\nINITIATOR *\n}"
            )
        )
        groups = found.drivers[0].targets[0].groups
        self.assertEqual([one.patterns for one in groups], [("*",), ("*",)])
        self.assertEqual(warnings, ["5:11: '*': it is in this group already"])


class ByteTests(FileCase):
    """
    Bytes that are no UTF-8.
    """

    def test_comment(self) -> None:
        """In a comment they mean nothing."""
        found, warnings = self.read(
            b"# f\xfcr B\xfcro\n"
            + self.device("size 1M # \xff")
            .encode("latin-1")
            .replace(b"}", b"}#\xe9", 1)
        )
        self.assertEqual([one.name for one in found.devices], ["d"])
        self.assertEqual(warnings, [])

    def test_word(self) -> None:
        """In a word they are a mistake: its place is named, not the word."""
        for line in (b'prod_id "caf\xe9"', b"caf\xe9 1", b"usn \xe9"):
            said = self.wrong(
                self.device("size 1M")
                .encode()
                .replace(b"\n}", b"\n" + line + b"\n}", 1)
            )
            self.assertIn(": expected UTF-8, found the byte 0xe9", said)
            self.assertRegex(said, r":4:\d+: expected UTF-8")

    @examples()
    @given(
        st.binary(max_size=40).filter(lambda one: b"\n" not in one and b"\r" not in one)
    )
    def test_any_comment(self, comment: bytes) -> None:
        """No comment changes what is read."""
        text = self.device("size 1M").encode().replace(b"\n", b" #" + comment + b"\n")
        self.assertEqual(self.read(text), self.read(self.device("size 1M")))


class ValueTests(FileCase):
    """
    Values.
    """

    def test_nothing_behind(self) -> None:
        """A name with nothing behind it is not set; where it must be it is missing."""
        found, warnings = self.read(
            self.device(
                'size 1M\nusn\nnaa_id\nrotational\nread_only ""\nnv_cache\nsize_mb'
            )
        )
        (device,) = found.devices
        self.assertEqual(
            [
                device.values[one]
                for one in ("usn", "naa_id", "rotational", "read_only")
            ],
            [None, None, True, False],
        )
        self.assertEqual(
            warnings,
            [
                f"{place}: nothing stands behind it: it is not set"
                for place in ("6:1: 'rotational'", "7:1: 'read_only'")
            ],
        )
        self.assertIn(":3:1: 'IncomingUser'", self.wrong(self.target("IncomingUser")))
        said = self.wrong(self.device("filename", "vdisk_fileio"))
        self.assertIn(":3:1: 'filename': expected a string", said)
        found, _warnings = self.read('TARGET_DRIVER iscsi {\ninitiators_allow ""\n}\n')
        self.assertEqual(found.drivers[0].values["initiators_allow"], "")

    def test_zero(self) -> None:
        """0 is no relative target port identifier, and 512 as a length of blocks."""
        found, warnings = self.read(
            self.device("size 1M\nblocksize 0")
            + self.target("rel_tgt_id 0")
            + f"DEVICE_GROUP g {{\nTARGET_GROUP a {{\nTARGET {IQN} {{\nrel_tgt_id 0\n}}\n}}\n}}\n"
        )
        self.assertEqual(warnings, [])
        self.assertEqual(found.devices[0].values["blocksize"], 512)
        self.assertIsNone(found.drivers[0].targets[0].values["rel_tgt_id"])
        self.assertIn("or 0 for none", self.wrong(self.target("rel_tgt_id 65536")))

    def test_defaults(self) -> None:
        """Of a word of SCST's alone nothing is said with its default, and only then."""
        for words, text in (
            (scst_words.ROOT, "%s %s\n"),
            (scst_words.DEVICE, self.device("size 1M\n%s %s")),
            (scst_words.DRIVER, "TARGET_DRIVER iscsi {\n%s %s\n}\n"),
            (scst_words.TARGET, self.target("%s %s")),
        ):
            for word, left in words.items():
                for value in ("0", "1", "-1", "none", *left.unsaid):
                    _found, warnings = self.read(text % (word, value))
                    self.assertEqual(
                        len(warnings), value not in left.unsaid, (word, value, warnings)
                    )
        for word, value, quiet in (
            ("auto_cm_assignment", "0", False),
            ("auto_cm_assignment", "1", True),
            ("max_tasklet_cmd", "0", False),
            ("max_tasklet_cmd", "10", True),
        ):
            _found, warnings = self.read(f"{word} {value}\n")
            self.assertEqual(warnings == [], quiet, word)

    def test_above(self) -> None:
        """A number above our limit is cut to it, with a warning that names it."""
        found, warnings = self.read(
            self.target("MaxBurstLength 16777215\nQueuedCommands 4096\nRspTimeout 90")
        )
        values = found.drivers[0].targets[0].values
        self.assertEqual(values["MaxBurstLength"], MOST)
        self.assertEqual(values["QueuedCommands"], 2048)
        self.assertEqual(
            warnings,
            [
                f"3:16: '16777215': more than {MOST}, the limit: that is used",
                "4:16: '4096': more than 2048, the limit: that is used",
            ],
        )
        rows = {
            one.name: one for one in find_target_driver("iscsi").target_attributes()
        }
        for name in scst_words.CUT & set(rows):
            text, why = scst_dialect.cut(rows[name], "9" * 15)
            self.assertIn(text, why)
            rows[name].parse(text)

    def test_below(self) -> None:
        """Where a number is refused the limits are named."""
        said = self.wrong(self.target("MaxBurstLength 100"))
        self.assertIn(f"a number of bytes from 512 to {MOST}", said)

    def test_portals(self) -> None:
        """Several patterns of portals in one value would fit nothing."""
        for text in ('"10.0.0.1 10.0.0.2"', "10.0.0.1,10.0.0.2", '""'):
            self.assertIn(
                "3:16: ", self.wrong(self.target(f"allowed_portal {text}"))
            ) if text != '""' else self.read(self.target(f"allowed_portal {text}"))
        found, _warnings = self.read(
            self.target("allowed_portal 10.0.*\nallowed_portal !fe80::1%eth0")
        )
        self.assertEqual(
            found.drivers[0].targets[0].values["allowed_portal"],
            ("10.0.*", "!fe80::1%eth0"),
        )

    def test_access(self) -> None:
        """SCST's block about access states as a whole is left out."""
        found, warnings = self.read("ALUA {\nlun_affinity 1\n}\n" + self.target(""))
        self.assertEqual(len(found.drivers), 1)
        self.assertIn("2:1: 'lun_affinity': taken, and left out", warnings[0])


class SizeTests(FileCase):
    """
    SCST's two words for a size.
    """

    def test_agree(self) -> None:
        """They agree, or the file is refused."""
        for lines, size in (
            ("size_mb 2", 2 << 20),
            ("size 2M\nsize_mb 2", 2 << 20),
            ("size_mb 2\nsize 2098176", 2098176),
        ):
            found, warnings = self.read(self.device(lines))
            self.assertEqual(found.devices[0].values["size"], size)
            self.assertEqual(warnings, [])
        said = self.wrong(self.device("size 3M\nsize_mb 2"))
        self.assertIn(":4:9: '2': size 3M is another one", said)
        self.assertIn("whole number of MiB", self.wrong(self.device("size_mb 1G")))

    def test_information(self) -> None:
        """Beside a file it is for information: none is made for it."""
        for handler in ("vdisk_fileio", "vdisk_blockio"):
            text = self.device("filename /no/such/file\nsize_mb 64", handler)
            found, warnings = self.read(text)
            self.assertIsNone(found.devices[0].values["size"])
            self.assertIn(
                "4:1: 'size_mb': taken, and left out: the size of", warnings[0]
            )


class HandTests(TestCase):
    """
    The same said by hand: when something is made, and when an attribute is set.
    """

    async def test_words(self) -> None:
        """SCST's words are taken in all places, with the warning that a file gets."""
        tree = await started(self)
        why = "taken, and left out: caches are flushed"
        with hearing() as said:
            await tree.manage(
                "handlers/vdisk_nullio", "add_device", ["n"], [("nv_cache", "1")]
            )
            await tree.write("devices/n/nv_cache", "1")
            await tree.write("devices/n/o_direct", "0")
            await tree.write("devices/n/threads_num", "4")
            await tree.write("poll_us", "9")
            await tree.write("handlers/memory/trace_level", "1")
            await tree.write("targets/iscsi/link_local", "0")
            target = next(iter(tree.system.drivers.targets))
            await tree.write(f"targets/iscsi/{target}/cpu_mask", "f")
        self.assertEqual(len(said), 7)
        self.assertIn(f"n: nv_cache 1: {why}", said[0])
        self.assertIn(f"devices/n/nv_cache 1: {why}", said[1])
        for path in ("devices/nosuch/nv_cache", "devices/n/nosuch", "nosuch"):
            with self.assertRaises(ConfigurationError):
                await tree.write(path, "1")

    async def test_login(self) -> None:
        """An initiator finds a target by the name that was configured, and as it is."""
        name = "iqn.2012-11.com.bayour:share_VMs"
        text = (
            "HANDLER memory {\nDEVICE d {\nsize 1M\n}\n}\nTARGET_DRIVER iscsi {\n"
            f"enabled 1\nTARGET {name} {{\nenabled 1\nLUN 0 d\n}}\n}}\n"
        )
        driver: Any = (await started(self, text)).system.drivers["iscsi"].instance
        for one in (name, name.lower()):
            self.assertTrue(Initiator(driver.node).ready(one))

    async def test_values(self) -> None:
        """Numbers are cut, sizes in MiB agree, names become small by hand as well."""
        tree = await started(self)
        with hearing() as said:
            await tree.manage("targets/iscsi", "add_target", [f"{IQN}:A"], [])
            await tree.write(f"targets/iscsi/{IQN}:A/QueuedCommands", "4096")
            await tree.write(f"targets/iscsi/{IQN}:a/rel_tgt_id", "0")
            await tree.manage("targets/iscsi", "del_target", [f"{IQN}:A"])
        self.assertEqual(len(said), 2)
        self.assertIn("more than 2048", said[1])
        rows = device_rows(find_device_handler("memory"))
        self.assertRaises(
            ConfigurationError,
            scst_dialect.accepted,
            scst_words.DEVICE,
            rows,
            [("size", "1M"), ("size_mb", "2")],
        )
        kept, warnings = scst_dialect.accepted(
            scst_words.DEVICE, rows, [("size_mb", "2"), ("blocksize", "0")]
        )
        self.assertEqual((kept, warnings), ([("size", str(2 << 20))], []))
