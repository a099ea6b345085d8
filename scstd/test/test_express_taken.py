# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.engine.express`: what is taken by it, and what is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import attrs
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine import express
from scstd.protocols.engine.phase import Phase
from scstd.protocols.engine.session import Session
from scstd.test.staging import Scripted
from scstd.test.worlds import BLOCKS, Spec, World


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the commands that go the general way."""
    calls: list[int] = []
    command = Session.command

    def counting(self: Session, connection: Any, pdu: Any) -> None:
        calls.append(pdu.itt)
        command(self, connection, pdu)

    with patch.object(Session, "command", counting):
        yield calls


class TakenTests(SynchronousTestCase):
    """
    What is usual goes by it, and nothing else does.
    """

    def setUp(self) -> None:
        """Have a world."""
        self.world = World({"MaxRecvDataSegmentLength": "262144"})

    def general(self, *specs: Spec) -> int:
        """Return how many of some commands go the general way."""
        with counted() as calls:
            self.world.send(0, list(specs), [], [])
        return len(calls)

    def test_usual(self) -> None:
        """READ and WRITE of 10 and 16 bytes do, on every LUN, with digests too."""
        usual = [
            Spec(opcode, lun=lun, attribute=attribute)
            for opcode in (0x28, 0x2A, 0x88, 0x8A)
            for lun in (0, 1)
            for attribute in (0, 1)
        ]
        for keys in ({}, {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}):
            self.world = World({"MaxRecvDataSegmentLength": "262144", **keys})
            for one in usual:
                self.assertEqual(self.general(one), 0, one)

    def taken(self, *specs: Spec, hows: tuple[str, ...] = ()) -> int:
        """Return how many of some commands go by it."""
        before = self.world.sessions[0].commands
        with counted() as calls:
            self.world.send(0, list(specs), [], list(hows))
        return int(self.world.sessions[0].commands - before) - len(calls)

    def test_odd(self) -> None:
        """What is unusual of a command itself has it go the general way."""
        for keys, spec in (
            *(({}, Spec(opcode)) for opcode in (0x08, 0x0A, 0xA8, 0xAA, 0x25, 0x2F)),
            *(({}, Spec(lba=lba)) for lba in (BLOCKS - 7, BLOCKS, 1 << 31)),
            ({}, Spec(blocks=0, way=0x40)),
            ({}, Spec(0x2A, blocks=0, way=0x20)),
            *(({}, Spec(opcode, more=512)) for opcode in (0x28, 0x2A)),
            *(({}, Spec(opcode, more=-512)) for opcode in (0x28, 0x2A)),
            *(({}, Spec(0x2A, data_more=more)) for more in (512, -512, -4096)),
            *(({}, Spec(opcode, flags=8)) for opcode in (0x28, 0x2A, 0x88, 0x8A)),
            *(({}, Spec(opcode, control=4)) for opcode in (0x28, 0x88)),
            *(({}, Spec(attribute=attribute)) for attribute in (2, 3, 4, 5)),
            ({}, Spec(0x2A, final=False)),
            ({}, Spec(immediate=True)),
            ({}, Spec(ahead=1)),
            ({}, Spec(ahead=-1)),
            ({}, Spec(lun=5)),
            *(({}, Spec(way=way)) for way in (0, 0x20, 0x60)),
            *(({}, Spec(0x2A, way=way)) for way in (0, 0x40, 0x60)),
            ({"ImmediateData": "No"}, Spec(0x2A)),
            ({"MaxRecvDataSegmentLength": "2048"}, Spec()),
            ({"HeaderDigest": "CRC32C"}, Spec(turned=48)),
            ({"HeaderDigest": "CRC32C"}, Spec(0x2A, turned=20)),
            ({"DataDigest": "CRC32C"}, Spec(0x2A, turned=60)),
            ({"ErrorRecoveryLevel": "1"}, Spec()),
        ):
            self.world = World({"MaxRecvDataSegmentLength": "262144", **keys})
            self.assertLessEqual(self.taken(spec), 0, spec)

    def test_in_the_way(self) -> None:
        """What is there already has it go the general way."""
        eight = [Spec()] * 8
        for before, hows, spec in (
            ([Spec(ahead=1)], [], Spec()),
            (eight, ["later"] * 8, Spec()),
            ([Spec()], ["later"], Spec(tag=1)),
            ([Spec(attribute=2)], ["later"], Spec()),
            ([Spec(attribute=3)], ["later"], Spec()),
        ):
            self.setUp()
            self.assertEqual(self.taken(Spec()), 1)
            self.world.send(0, before, [], hows)
            self.assertLessEqual(self.taken(spec), 0, before)

    def test_too_long(self) -> None:
        """A segment, or a read, that is longer than it may be does."""
        connection = self.world.connections[0]
        self.world.sessions[0].reads.small = 2048
        self.assertEqual(self.taken(Spec()), 0)
        connection.framer.max_segment = 2048
        self.assertEqual(self.taken(Spec(0x2A)), 0)
        self.assertTrue(connection.over)

    def test_connection(self) -> None:
        """Each thing that is special at a connection closes it."""
        connection = self.world.connections[0]
        for name, value in (
            ("phase", Phase.OVER),
            ("session", None),
            ("over", True),
            ("direct", False),
            ("recovery", object()),
            ("responder", None),
        ):
            self.assertIs(express.way_of(connection), express.take)
            usual = getattr(connection, name)
            setattr(connection, name, value)
            self.assertIsNone(express.way_of(connection), name)
            setattr(connection, name, usual)

    def test_unit(self) -> None:
        """Each thing that is special at a unit closes it."""
        self.world.do(("mode", 0, "software_write_protect", 1))
        self.world.sessions[0].nexus.itls[0].attentions.clear()
        self.assertEqual(self.taken(Spec(), Spec(0x2A)), 1)
        self.world = World(
            {"MaxRecvDataSegmentLength": "262144"}, max_tgt_dev_commands=3
        )
        self.assertEqual(self.taken(Spec()), 0)
        row: Any = self.world.units[0].commands[0x28]
        other = attrs.evolve(row, run=partial(row.run))
        for found in (None, other):
            self.setUp()
            unit = self.world.units[0]
            with patch.dict(unit.commands, {0x28: found}):
                unit.look_again()
                self.assertEqual(self.taken(Spec()), 0)
                self.assertEqual(self.taken(Spec(0x2A)), 1)

    def test_fenced(self) -> None:
        """An answer that is to be fenced since the store was called is."""
        for opcode in (0x28, 0x2A):
            for how in ("meanwhile", "later"):
                self.setUp()
                seen: list[int] = []
                connection = self.world.connections[0]

                def fence(connection: Any = connection, seen: Any = seen) -> None:
                    connection.fence(lambda _one, task, _pdu: seen.append(task.lba))

                self.world.stores[0].meanwhile = fence
                self.world.send(0, [Spec(opcode, 8), Spec(opcode, 9)], [], [how])
                if how == "later":
                    fence()
                    self.world.answer(0, 0, "now")
                self.assertIn(8, seen)

    def test_aborted(self) -> None:
        """A write that was aborted is not answered, and who waits for it is told."""
        for aborted in (False, True):
            self.setUp()
            self.world.send(0, [Spec(0x2A)], [], ["later"])
            (task,) = self.world.units[0].tasks()
            over: Any = None
            if aborted:
                task.aborted = True
            else:
                over = self.world.units[0].quiet()
            self.world.connections[0].output.clear()
            self.world.answer(0, 0, "now")
            self.assertEqual(bool(self.world.connections[0].output), not aborted)
            if over is not None:
                self.assertTrue(over.called)

    def test_logged_out(self) -> None:
        """What comes behind a logout is not carried out."""
        self.world.send(0, [Spec(0x2A)], [], ["later"])
        self.world.do(("over", 0, "logout"))
        calls = len(self.world.stores[0].calls)
        self.world.send(0, [Spec()], [], [])
        self.assertEqual(len(self.world.stores[0].calls), calls)

    def test_reserved(self) -> None:
        """What is reserved in a CDB has it go the general way."""
        one = self.world.ones[0]
        for opcode, at in ((0x28, 6), (0x28, 9), (0x88, 14), (0x88, 15)):
            cdb = bytearray(Spec(opcode).cdb())
            cdb[at] = 0x20
            with counted() as calls:
                one.send(one.command(bytes(cdb), read=4096))
            self.assertEqual(len(calls), 1, (opcode, at))

    def test_read_with_data(self) -> None:
        """A READ that comes with data does."""
        one = self.world.ones[0]
        with counted() as calls:
            one.send(one.command(Spec().cdb(), read=4096, data=b"1234"))
        self.assertEqual(len(calls), 1)

    def test_deferred_function(self) -> None:
        """A command before a function that waits for it does, and the function runs."""
        one = self.world.ones[0]
        one.cmd_sn += 1
        one.manage(5)
        one.cmd_sn -= 1
        self.assertEqual(len(self.world.sessions[0].ordering.deferred), 1)
        self.assertEqual(self.taken(Spec()), 0)
        self.assertEqual(self.world.sessions[0].ordering.deferred, [])

    def test_enough(self) -> None:
        """No more is answered than is to be sent at once."""
        one, connection = self.world.ones[0], self.world.connections[0]
        self.world.window(64)
        self.world.do(("take", 0))
        data = b"".join(self.world.encoded(one, Spec()) for _number in range(40))
        with counted() as calls:
            connection.receive_data(data, 0.0)
        self.assertEqual(calls, [])
        self.assertEqual(connection.output_bytes, 16 * 4096)

    def test_called(self) -> None:
        """While a unit's store is called, others that call it are seen."""
        self.world.do(("inside", ("send", 1, [Spec()], [], [])))
        with counted() as calls:
            self.world.send(0, [Spec()], [], ["meanwhile"])
        self.assertEqual(len(calls), 1)

    def test_looked_at(self) -> None:
        """Who looks while the store is called sees a task, and afterwards none."""
        self.world.do(("inside", ("look",)))
        self.assertEqual(self.taken(Spec(0x2A), hows=("meanwhile",)), 1)
        self.assertIn("'lba': 0, 'blocks': 8", self.world.seen[-2])
        self.assertEqual(self.world.units[0].tasks(), [])
        self.assertEqual(self.taken(Spec(0x2A)), 1)

    def test_special(self) -> None:
        """None does while there is something special, and they do again after that."""
        for begin, end in (
            (("attention", 0), None),
            (("condition", 0), ("condition", 0)),
            (("tap", 0), ("tap", 0)),
            (("lock", 0), ("lock", 0)),
            (("mode", 0, "queue_algorithm", 0), ("mode", 0, "queue_algorithm", 1)),
            (("tight", 0, 1), ("tight", 0, 0)),
            (("reserve", 0, 1), ("reserve", 0, 1)),
            (("limit", 0, 2048), ("limit", 0, 0)),
        ):
            self.world = World({"MaxRecvDataSegmentLength": "262144"})
            self.assertEqual(self.general(Spec()), 0)
            self.world.do(begin)
            self.assertEqual(self.general(Spec()), 1, begin)
            if end is not None:
                self.world.do(end)
                self.world.sessions[0].nexus.itls[0].attentions.clear()
            self.assertEqual(self.general(Spec()), 0, begin)

    def test_stages(self) -> None:
        """A stage at any point is passed from when it is there until it is not."""
        for point in ("arrive", "run", "execute", "finish"):
            stage = Scripted(point, points=(point,))
            unit = self.world.units[0]
            self.assertEqual(self.general(Spec()), 0)
            unit.pipeline.add(stage)
            self.assertEqual(self.general(Spec()), 1)
            unit.pipeline.remove(stage)
            self.assertEqual(self.general(Spec()), 0)
            self.assertEqual(stage.seen, [f"{point} {point}"])

    def test_write_protected(self) -> None:
        """Where nothing may be written, reads do, and writes do not."""
        self.world.do(("read_only", 0, True))
        self.assertEqual(self.general(Spec(0x00), Spec(0x28), Spec(0x2A)), 2)
        self.world.do(("read_only", 0, False))
        self.assertEqual(self.general(Spec(0x00), Spec(0x28), Spec(0x2A)), 1)

    def test_seen(self) -> None:
        """What the store answers later is a task like any other, until it is over."""
        self.world.send(0, [Spec(), Spec(0x2A)], [], ["later", "later"])
        read, write = self.world.units[0].tasks()
        self.assertEqual([read.lba, read.blocks, read.started], [0, 8, True])
        self.assertEqual(len(write.data_out), 4096)
        self.assertEqual(
            [one.tag for one in (read, write)], [*self.world.sessions[0].tasks]
        )
        self.world.answer(0, 1, "now")
        self.world.answer(0, 0, "now")
        self.assertEqual(self.world.units[0].tasks(), [])
        self.assertEqual(self.world.sessions[0].tasks, {})
        self.assertTrue(read.finished and write.finished)

    def test_late_stage(self) -> None:
        """A stage that came while the store was at work sees how a write ends."""
        self.world.send(0, [Spec(0x2A)], [], ["later"])
        stage = Scripted("late", points=("finish",))
        self.world.units[0].pipeline.add(stage)
        self.world.answer(0, 0, "now")
        self.assertEqual(stage.seen, ["late finish"])
