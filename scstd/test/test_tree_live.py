# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.tree`: what is written while initiators are logged in.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import fail
from twisted.internet.protocol import ServerFactory
from twisted.trial.unittest import TestCase

from scstd.management.errors import TreeError
from scstd.test.initiator import Initiator
from scstd.test.test_tree import TARGET, login, started

INQUIRY = bytes.fromhex("120000006000")


READY = bytes(6)


ATTENTIONS = {"luns": 0x3F0E, "inquiry": 0x3F03, "capacity": 0x2A09, "reset": 0x2900}


def attention(initiator: Initiator, lun: int = 0) -> int:
    """
    Return the unit attention that TEST UNIT READY meets; 0 if it is GOOD.
    """
    done = initiator.do(READY, lun=lun)
    return 0 if done.status == 0 else done.asc


class LiveTests(TestCase):
    """
    What initiators notice of changes.
    """

    async def test_lun_added(self) -> None:
        """A new LUN is there at once, and the others are told."""
        tree = await started(self)
        one = login(tree)
        other = login(tree, "iqn.2005-03.org.special:b")
        await tree.write(f"{TARGET}/luns/mgmt", "add disk3 9")
        self.assertEqual(attention(one, 0), ATTENTIONS["luns"])
        self.assertEqual(attention(one, 9), ATTENTIONS["reset"])
        self.assertIn(attention(one, 9), {0, ATTENTIONS["luns"]})
        self.assertEqual(attention(one, 9), 0)
        self.assertEqual(attention(other, 5), 0)

    async def test_lun_removed(self) -> None:
        """A LUN that goes is not there any more; its neighbour is told and goes on."""
        tree = await started(self)
        one = login(tree)
        await tree.write(f"{TARGET}/luns/mgmt", "del 1")
        self.assertEqual(attention(one, 1), 0x2500)
        self.assertEqual(attention(one, 0), ATTENTIONS["luns"])
        self.assertEqual(attention(one, 0), 0)

    async def test_lun_replaced(self) -> None:
        """At a replaced LUN the INQUIRY data has changed, or nothing is said."""
        tree = await started(self)
        one = login(tree)
        await tree.write(f"{TARGET}/luns/mgmt", "replace disk3 1")
        self.assertEqual(attention(one, 1), ATTENTIONS["inquiry"])
        self.assertEqual(attention(one, 0), 0)
        await tree.write(f"{TARGET}/luns/mgmt", "replace_no_ua disk2 1")
        self.assertEqual(attention(one, 1), 0)
        self.assertIn(b"disk2", one.do(INQUIRY, lun=1, read=96).data)

    async def test_identity(self) -> None:
        """A changed identity is told to everybody who uses the device."""
        tree = await started(self)
        one = login(tree)
        await tree.write("devices/disk1/prod_id", "Other")
        self.assertEqual(attention(one), ATTENTIONS["inquiry"])
        self.assertIn(b"Other", one.do(INQUIRY, read=96).data)
        await tree.write("devices/disk1/prod_id", "Other")
        self.assertEqual(attention(one), 0)
        await tree.write("devices/disk1/usn", "42")
        self.assertEqual(attention(one), ATTENTIONS["inquiry"])
        page = one.do(bytes.fromhex("120180006000"), read=96).data
        self.assertEqual(page[4 : 4 + page[3]].strip(), b"42")

    async def test_groups(self) -> None:
        """Sessions follow their initiators from group to group."""
        tree = await started(self)
        one = login(tree)
        groups = f"{TARGET}/ini_groups"
        await tree.write(f"{groups}/mgmt", "create h")
        await tree.write(f"{groups}/h/luns/mgmt", "add disk1 0")
        await tree.write(f"{groups}/h/luns/mgmt", "add disk3 3")
        self.assertEqual(attention(one, 0), 0)
        await tree.write(f"{groups}/h/initiators/mgmt", f"add {one.name}")
        self.assertEqual(attention(one, 0), ATTENTIONS["luns"])
        self.assertEqual(attention(one, 3), ATTENTIONS["reset"])
        self.assertEqual(attention(one, 1), 0x2500)
        await tree.write(f"{groups}/h/initiators/mgmt", f"move {one.name} g")
        self.assertEqual(attention(one, 0), 0x2500)
        self.assertEqual(attention(one, 5), ATTENTIONS["reset"])
        await tree.write(f"{groups}/mgmt", "del g")
        self.assertEqual(attention(one, 0), ATTENTIONS["reset"])

    async def test_resize(self) -> None:
        """A file that grew, or shrank, is noticed at resync_size: all are told."""
        tree = await started(self)
        path = Path(self.mktemp())
        path.write_bytes(bytes(1 << 20))
        await tree.write("handlers/vdisk_fileio/mgmt", f"add_device f filename={path}")
        await tree.write(f"{TARGET}/luns/mgmt", "add f 4")
        one, other = login(tree), login(tree, "iqn.2005-03.org.initiator:b")
        for size in (2 << 20, 1 << 19):
            os.truncate(path, size)
            self.assertEqual(attention(one, 4), 0)
            await tree.write("devices/f/resync_size", "1")
            for initiator in (one, other):
                self.assertEqual(attention(initiator, 4), ATTENTIONS["capacity"])
                capacity = initiator.do(
                    bytes.fromhex("25000000000000000000"), lun=4, read=8
                ).data
                self.assertEqual(int.from_bytes(capacity[:4], "big"), size // 512 - 1)
        await tree.write("devices/f/size", "3M")
        self.assertEqual(attention(one, 4), ATTENTIONS["capacity"])
        self.assertEqual(path.stat().st_size, 3 << 20)

    async def test_portals(self) -> None:
        """Portals come and go; a session stays on one that has gone."""
        tree = await started(self)
        driver = tree.system.drivers["iscsi"]
        driver.fixed, driver.default = (), driver.fixed
        one = login(tree)
        mgmt = "targets/iscsi/mgmt"
        await tree.write(mgmt, "add_attribute portal 127.0.0.1:0")
        await tree.write(mgmt, "add_attribute portal [::1]:0")
        self.assertEqual(list(driver.ports), ["127.0.0.1:0", "[::1]:0"])
        port = driver.ports["[::1]:0"].getHost().port
        try:
            await tree.write(mgmt, f"add_attribute portal [::1]:{port}")
        except TreeError as error:
            self.assertEqual(error.errno, errno.EADDRINUSE)
        else:
            self.fail("the port was free")
        self.assertEqual(list(driver.ports), ["127.0.0.1:0", "[::1]:0"])
        await tree.write(mgmt, "del_attribute portal [::1]:0")
        self.assertEqual(list(driver.ports), ["127.0.0.1:0"])
        self.assertEqual(attention(one), 0)

    async def test_enabled_without_a_port(self) -> None:
        """A driver that cannot have all its ports has none, and is not enabled."""
        tree = await started(self, "")
        taken: Any = reactor.listenTCP(0, ServerFactory(), interface="127.0.0.1")
        self.addCleanup(taken.stopListening)
        driver = tree.system.drivers["iscsi"]
        where = f"127.0.0.1:{taken.getHost().port}"
        driver.fixed, driver.portals = (), ("[::1]:0", where)
        error = await self.assertFailure(
            tree.write("targets/iscsi/enabled", "1"), TreeError
        )
        self.assertEqual(error.errno, errno.EADDRINUSE)
        self.assertEqual(tree.read("targets/iscsi/enabled"), "0\n")
        self.assertEqual(driver.ports, {})
        await tree.write("targets/iscsi/mgmt", "set_attribute portal [::1]:0")
        await tree.write("targets/iscsi/enabled", "1")
        self.assertEqual(list(driver.ports), ["[::1]:0"])

    async def test_store_refuses(self) -> None:
        """What a store cannot do is refused with its errno."""
        tree = await started(self)
        store: Any = tree.system.devices["disk1"].unit.store
        self.patch(store, "flush", lambda: fail(OSError(errno.EIO, "no medium today")))
        error = await self.assertFailure(
            tree.write("devices/disk1/sync", "1"), TreeError
        )
        self.assertEqual((error.errno, str(error)), (errno.EIO, "no medium today"))
        self.assertEqual(tree.read("last_sysfs_mgmt_res"), f"{errno.EIO}\n")
        self.assertEqual(tree.read("last_error"), "no medium today\n")
