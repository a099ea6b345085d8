# SPDX-License-Identifier: MIT
"""
Old configuration files, kind by kind: nothing of them is lost without a warning, and
what comes out is right.  The files here are our own.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.management.config.reading import read
from scstd.management.converters.legacy import convert_texts, is_legacy
from scstd.management.model.configuration import Configuration
from scstd.test.generating import examples

IQN = "iqn.2007-05.com.example:a"


class OldCase(SynchronousTestCase):
    """
    Converts texts.
    """

    def convert(self, *texts: str) -> tuple[Configuration, list[str]]:
        """Return what files configure, and the warnings without the file's name."""
        text, warnings = convert_texts([(f"f{n}", one) for n, one in enumerate(texts)])
        found = read(text, "")
        return found, [one.removeprefix("f0:") for one in warnings]

    def target(self, lines: str) -> tuple[dict[str, Any], list[str]]:
        """Return what lines of a target configure, and the warnings."""
        found, warnings = self.convert(f"Target {IQN}\n{lines}\n")
        return dict(found.drivers[0].targets[0].values), warnings

    def wrong(self, *texts: str) -> str:
        """Return what is wrong with files."""
        error = self.assertRaises(ConfigurationError, self.convert, *texts)
        return str(error)


class GrammarTests(OldCase):
    """
    The rules of iscsi-scstd.conf(5), and of ietd.conf.
    """

    def test_as_it_stands(self) -> None:
        """No character takes another's meaning away: secrets are what they were."""
        for name, secret in (
            ("jim", "12charpasswd#1"),
            ("DOM\\carl", "back\\slash12\\"),
            ("ann", "it's-a-12char-secret"),
            ('"bob"', 'with"quotes"12'),
            ("joe", "{brace}and}more{"),
        ):
            values, _warnings = self.target(f"\tIncomingUser {name} {secret}")
            self.assertEqual(values["IncomingUser"], ((name, secret),))

    @examples(60)
    @given(
        st.text(
            st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=";"),
            min_size=12,
            max_size=20,
        )
    )
    def test_any_secret(self, secret: str) -> None:
        """Any secret comes out as it went in."""
        values, _warnings = self.target(f"IncomingUser joe {secret}")
        self.assertEqual(values["IncomingUser"], (("joe", secret),))

    def test_quotes(self) -> None:
        """Quotes round a name were a part of it, which is said."""
        _values, warnings = self.target('IncomingUser "bob" 12charpasswdx')
        self.assertEqual(
            warnings,
            ["2:1: 'IncomingUser': quotes are part of the name, as they were then"],
        )

    def test_comments(self) -> None:
        """Only at the beginning of a line does # begin one."""
        values, _warnings = self.target("  # Alias no\nAlias disk #1\n#;Alias no")
        self.assertEqual(values["alias"], "disk #1")

    def test_semicolons(self) -> None:
        """A directive ends at a semicolon, too."""
        values, warnings = self.target("NopInInterval 25; QueuedCommands 64;;")
        self.assertEqual((values["NopInInterval"], values["QueuedCommands"]), (25, 64))
        self.assertEqual(warnings, [])
        self.assertTrue(is_legacy(f"Target {IQN};QueuedCommands 8\n"))
        self.assertIn(
            "f0:2:19: 'Nonsense'",
            self.wrong(f"Target {IQN}\nQueuedCommands 8; Nonsense 1\n"),
        )

    def test_continued(self) -> None:
        """In ietd.conf a backslash at the end goes on with the next line, else not."""
        text = "IncomingUser joe \\\n   12charpasswdx\nWthreads 8"
        values, _warnings = self.target(text)
        self.assertEqual(values["IncomingUser"], (("joe", "12charpasswdx"),))
        values, _warnings = self.target("IncomingUser joe 12charpasswd\\")
        self.assertEqual(values["IncomingUser"], (("joe", "12charpasswd\\"),))
        said = self.wrong(f"Target {IQN}\nAlias a \\\nb\nWthreads 1\nNonsense 1\n")
        self.assertIn("f0:5:1: 'Nonsense'", said)

    def test_names(self) -> None:
        """Names are known as they are today, and what cannot be one has its line."""
        found, warnings = self.convert("Target iqn.2007-05.com.example:Storage_1\n")
        name = "iqn.2007-05.com.example:storage_1"
        self.assertEqual([one.name for one in found.drivers[0].targets], [name])
        (said,) = warnings
        self.assertIn("1:1: 'Target': iqn.2007-05.com.example:Storage_1: its", said)
        self.assertIn("f0:1:1: 'Target': 'disk' is no", self.wrong("Target disk\n"))
        self.assertIn("expected one name", self.wrong("Target\nAlias x\n"))


class ValueTests(OldCase):
    """
    What is in them.
    """

    def test_no_account(self) -> None:
        """An account that cannot be had opens the target to nobody."""
        short = "IncomingUser joe short"
        values, warnings = self.target(short)
        self.assertFalse(values["enabled"])
        (said,) = warnings
        self.assertIn("2:1: 'IncomingUser': the secret", said)
        self.assertIn("the target is not enabled", said)
        self.assertNotIn("short:", said)
        for lines in (
            f"{short}\nIncomingUser ann 12charpasswdx",
            f"IncomingUser ann 12charpasswdx\n{short}",
        ):
            values, warnings = self.target(lines)
            self.assertTrue(values["enabled"])
            self.assertEqual(len(warnings), 1)
        _values, warnings = self.target("IncomingUser joe\nOutgoingUser us short")
        self.assertEqual(len(warnings), 2)
        found, warnings = self.convert(f"{short}\nTarget {IQN}\n")
        self.assertTrue(found.drivers[0].values["enabled"])
        self.assertIn("everybody may discover", warnings[0])

    def test_one_outgoing(self) -> None:
        """Of several OutgoingUser the last one counts, as it did."""
        values, warnings = self.target(
            "OutgoingUser us 12charsecrety\nOutgoingUser we 12charsecretz"
        )
        self.assertEqual(values["OutgoingUser"], ("we", "12charsecretz"))
        self.assertIn(
            "2:1: 'OutgoingUser': left out: there is a later one", warnings[0]
        )

    def test_same_secret(self) -> None:
        """What today is refused has the old file's line."""
        said = self.wrong(
            f"Target {IQN}\nIncomingUser a 12charsecretx\nIncomingUser a 12charsecrety\n"
            "MaxBurstLength 8192\n[\n"
        )
        self.assertIn("f0:5:1: '['", said)

    def test_fixed(self) -> None:
        """What was fixed is left out, with a warning if it was something else."""
        values, warnings = self.target(
            "MaxConnections 1\nErrorRecoveryLevel 0\nDefaultTime2Wait 2\n"
            "DefaultTime2Retain 20\nDataPDUInOrder Yes\nMaxXmitDataSegmentLength 8192\n"
            "MaxConnections 4"
        )
        self.assertEqual(
            [values[one] for one in ("MaxConnections", "DefaultTime2Retain")], [1, 0]
        )
        self.assertEqual(
            [one.split(": ")[0] for one in warnings], ["4:1", "5:1", "7:1", "8:1"]
        )

    def test_numbers(self) -> None:
        """Numbers are cut to limits; what is none is left out, as it was."""
        values, warnings = self.target(
            "QueuedCommands 4096\nMaxBurstLength 16777215\nRspTimeout x\nAlias a\nAlias b"
        )
        self.assertEqual(values["QueuedCommands"], 2048)
        self.assertEqual(values["RspTimeout"], 90)
        self.assertEqual(values["alias"], "a")
        self.assertEqual(len(warnings), 4)

    def test_pings(self) -> None:
        """ietd.conf's words for pings are ours; without an interval no time is needed."""
        values, warnings = self.target("NOPInterval 20\nNOPTimeout 10")
        self.assertEqual((values["NopInInterval"], values["NopInTimeout"]), (20, 10))
        values, warnings = self.target("NOPInterval 0\nNOPTimeout 0")
        self.assertEqual((values["NopInInterval"], values["NopInTimeout"]), (0, 30))
        self.assertEqual(warnings, [])
        _values, warnings = self.target("NOPInterval 5\nNOPTimeout 0")
        self.assertEqual(len(warnings), 1)

    def test_isns(self) -> None:
        """Access control is on unless it says No."""
        for word, control in (("Yes", True), ("no", False), ("maybe", True)):
            text = f"iSNSServer 192.0.2.7\niSNSAccessControl {word}\nTarget {IQN}\n"
            found, _warnings = self.convert(text)
            self.assertEqual(
                found.drivers[0].values["iSNSServer"], ("192.0.2.7", 3205, control)
            )


class LunTests(OldCase):
    """
    Lun lines of ietd.conf.
    """

    def test_devices(self) -> None:
        """They become devices and LUNs; one file is one device."""
        found, warnings = self.convert(
            f"Target {IQN}\nLun 0 Path=/disks/a.img,Type=fileio,ScsiId=xyz,ScsiSN=42\n"
            "Lun 1 Sectors=10000,Type=nullio\nLun 2 Path=/dev/sdc,Type=blockio,IOMode=ro\n"
            f"Target {IQN}b\nLun 7 Path=/disks/a.img, Type=fileio,ScsiId=xyz,ScsiSN=42\n"
            "Lun 8 Path=/other/a.img,IOMode=wt,BlockSize=4096\n"
        )
        self.assertEqual(warnings, [])
        devices = {one.name: one for one in found.devices}
        self.assertEqual(list(devices), ["a", "a_1", "nullio", "sdc"])
        self.assertEqual(devices["a"].values["t10_dev_id"], "xyz")
        self.assertEqual(devices["a"].values["usn"], "42")
        self.assertEqual(devices["nullio"].values["size"], 5120000)
        self.assertEqual(devices["sdc"].handler.name, "vdisk_blockio")
        self.assertTrue(devices["a_1"].values["write_through"])
        self.assertEqual(devices["a_1"].values["blocksize"], 4096)
        self.assertEqual(
            [
                [(lun.lun, lun.device, lun.read_only) for lun in target.luns]
                for target in found.drivers[0].targets
            ],
            [
                [(0, "a", False), (1, "nullio", False), (2, "sdc", True)],
                [(7, "a", False), (8, "a_1", False)],
            ],
        )

    def test_wrong(self) -> None:
        """What is no Lun line has its place; what means nothing here is said."""
        for line in ("Lun", "Lun x Path=/a", "Lun 0 Path=/a,Type=vmdk"):
            self.assertIn("f0:2:1: 'Lun'", self.wrong(f"Target {IQN}\n{line}\n"))
        _values, warnings = self.target(
            "Lun 0 Path=/a,Colour=red,IOMode=xy\nLun 0 Path=/b\n"
            "Lun 1 Path=/a,BlockSize=4096"
        )
        self.assertEqual(len(warnings), 4)
        # The new file's mistakes have the old one's lines.
        self.assertIn(
            "f0:2:1: 'Lun': ", self.wrong(f"Target {IQN}\nLun 17000 Path=/a\n")
        )

    def test_beside(self) -> None:
        """Beside an old scst.conf, which has LUNs, they meant nothing."""
        found, warnings = self.convert(
            f"Target {IQN}\nLun 0 Path=/a\n",
            "[HANDLER vdisk]\nDEVICE d,/d\n[ASSIGNMENT Default]\nDEVICE d,3\n",
        )
        self.assertEqual([one.lun for one in found.drivers[0].targets[0].luns], [3])
        self.assertIn("2:1: 'Lun': LUNs are in scst.conf", warnings[0])


class SectionTests(OldCase):
    """
    The scst.conf of before sysfs.
    """

    def core(self, text: str) -> tuple[Configuration, list[str]]:
        """Convert one that has a target."""
        return self.convert(f"{text}\n[GROUP Default_{IQN}]\n")

    def test_fields(self) -> None:
        """Every field of a device is used, the fifth too; or is said to be left out."""
        found, warnings = self.core(
            "[HANDLER vdisk]\nDEVICE d,/d,WT|NV_CACHE|ODD,4096,t10-id,more\n"
            "DEVICE n,none,NULLIO,1024\nDEVICE m,/m,NIO\n[HANDLER dev_disk]\nDEVICE 1:0:0:0\n"
        )
        d, n, m = found.devices
        self.assertEqual(d.values["t10_dev_id"], "t10-id")
        self.assertEqual(
            (d.values["blocksize"], d.values["write_through"]), (4096, True)
        )
        self.assertEqual({n.handler.name, m.handler.name}, {"vdisk_nullio"})
        self.assertEqual(
            [one.split(": ")[0] for one in warnings],
            ["2:1", "2:1", "2:1", "4:1", "6:1"],
        )

    def test_who(self) -> None:
        """Initiators, groups and LUNs that nothing is made of are said."""
        found, warnings = self.core(
            "[GROUP Default]\nUSER iqn.a:b\n[GROUP g]\nUSER *:c\n[ASSIGNMENT g]\n"
            "DEVICE nosuch,0\nDEVICE nosuch,1,RO|XX\n[OPTIONS]\nx 1\n"
        )
        (group,) = found.drivers[0].targets[0].groups
        self.assertEqual((group.patterns, group.luns), (("*:c",), ()))
        self.assertEqual(
            [one.split(": ")[0] for one in warnings],
            ["2:1", "6:1", "7:1", "7:1", "8:1"],
        )
        _found, warnings = self.convert("[GROUP g]\nUSER *:c\n")
        self.assertIn("1:1: '[GROUP g]': there is no target", warnings[0])

    def test_own_check(self) -> None:
        """What is wrong with what comes out has the old file's line."""
        said = self.wrong(
            "[HANDLER vdisk]\nDEVICE a,/a,,512,same\nDEVICE b,/b,,512,same\n"
            f"[GROUP Default_{IQN}]\n"
        )
        self.assertIn(
            "f0:3:1: 'DEVICE': 'b': devices a and b have the same t10_dev_id", said
        )
