# SPDX-License-Identifier: MIT
"""
A small world in which commands meet whatever they may: for the comparison of the
express way with the general one (`scstd.test.test_express`).

A `World` is made of a node with two disks and two sessions, and changed step by step.
It has neither threads nor time, and its clock counts how often it was asked, so that
two of them that are told the same have to say the same, byte for byte.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from scstd.block.settings import VolumeSettings
from scstd.interfaces import Buffer, IBackstore, MediumError
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.keys import LOCAL
from scstd.scsi.conditions import NotReady
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import Initiator, corrupted, serve
from scstd.test.staging import Keeps, Scripted
from scstd.test.stores import memory
from scstd.test.tapping import Script

SIZE = 64 << 10
"""Bytes of each disk."""

BLOCKS = SIZE >> 9

USUAL_MODES = {"write_cache": 1, "queue_algorithm": 1, "software_write_protect": 0}


@attrs.frozen
class Spec:
    """
    A command that is sent, and what is unusual of it.
    """

    opcode: int = 0x28
    lba: int = 0
    blocks: int = 8
    more: int = 0
    """So many bytes more are expected than its CDB moves."""
    data_more: int = 0
    """So many bytes more come with it."""
    flags: int = 0
    """The CDB's byte of flags."""
    control: int = 0
    attribute: int = 1
    final: bool = True
    immediate: bool = False
    ahead: int = 0
    """Its CmdSN is so much greater than the next."""
    tag: int = 0
    """It has the tag of the so-manieth before it, if that is not 0."""
    lun: int = 0
    turned: int = 0
    """This byte of it is damaged, if that is not 0."""
    way: int = -1
    """The way its data goes, if that is not as it should be: 0x40 in, 0x20 out."""

    def cdb(self) -> bytes:
        """Return its CDB."""
        code, tail = bytes((self.opcode, self.flags)), bytes((self.control,))
        lba = self.lba
        if self.opcode < 0x20:
            short = bytes((self.opcode,)) + (lba & 0x1FFFFF).to_bytes(3, "big")
            return short + bytes((self.blocks & 0xFF,)) + tail
        if self.opcode < 0x80:
            end = b"\0" + (self.blocks & 0xFFFF).to_bytes(2, "big") + tail
            return code + lba.to_bytes(4, "big") + end
        if self.opcode < 0xA0:
            end = self.blocks.to_bytes(4, "big") + b"\0" + tail
            return code + lba.to_bytes(8, "big") + end
        end = self.blocks.to_bytes(4, "big") + b"\0" + tail
        return code + lba.to_bytes(4, "big") + end

    @property
    def writes(self) -> bool:
        """Whether it is a WRITE."""
        return self.opcode & 0x1F == 0x0A

    @property
    def reads(self) -> bool:
        """Whether it is a READ."""
        return self.opcode & 0x1F == 0x08


@implementer(IBackstore)
class FickleStore:
    """
    A store that answers as *plan* says, call by call; what is not planned at once.
    """

    def __init__(self) -> None:
        self.inner = memory(SIZE)
        self.inner.write(0, bytes(range(256)) * (SIZE >> 8), False)
        self.size = SIZE
        self.block_size = 512
        self.plan: deque[str] = deque()
        self.calls: list[tuple[Any, ...]] = []
        self.waiting: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def _do(self, call: Callable[[], Any]) -> Any:
        how = self.plan.popleft() if self.plan else "now"
        if how.startswith("meanwhile "):
            self.meanwhile()
            how = how.removeprefix("meanwhile ")
        if how == "later":
            waiting: Deferred[Any] = Deferred()
            self.waiting.append((waiting, call))
            return waiting
        if how == "raises":
            raise MediumError(1024, errno.EIO)
        if how == "fails":
            return fail(OSError(errno.ENOSPC, "full"))
        if how == "meanwhile":
            self.meanwhile()
        return succeed(call()) if how == "fired" else call()

    def answer(self, number: int, how: str) -> None:
        """Answer one of the calls that wait."""
        if self.waiting:
            deferred, call = self.waiting.pop(number % len(self.waiting))
            if how == "fails":
                deferred.errback(MediumError(512, errno.EIO))
            else:
                deferred.callback(call())

    def read(self, offset: int, length: int) -> Any:
        """Read."""
        self.calls.append(("read", offset, length))
        return self._do(lambda: self.inner.read(offset, length))

    def write(self, offset: int, data: Buffer, fua: bool) -> Any:
        """Write."""
        self.calls.append(("write", offset, bytes(data), fua))
        kept = bytes(data)
        return self._do(lambda: self.inner.write(offset, kept, fua))

    def flush(self) -> Any:
        """Flush."""
        self.calls.append(("flush",))
        return self._do(lambda: None)

    def close(self) -> None:
        """Close."""


class World:
    """
    A node and two initiators, of which everything that they can see can be told.
    """

    def __init__(self, keys: dict[str, str], **settings: Any) -> None:
        self.ticks = 0
        self.stores = [FickleStore(), FickleStore()]
        local = {**LOCAL, "ErrorRecoveryLevel": 2, "MaxConnections": 2}
        self.limits = TargetSettings(local=local, queued_commands=8)
        self.node, self.target, self.units = serve(
            *self.stores, limits=self.limits, **settings
        )
        for unit in self.units:
            unit.volume.counters.measure(self.clock)
        self.ones = [
            Initiator(self.node, isid=b"\x80\0\0\0\0" + bytes((number,))).ready(**keys)
            for number in (1, 2)
        ]
        self.connections = [one.connection for one in self.ones]
        self.sessions: list[Any] = [one.session for one in self.connections]
        self.seen: list[str] = []
        self.stages: list[Any] = []
        self.taps: list[Any] = []
        self.locks: list[tuple[LogicalUnit, object]] = []
        self.conditions: list[NotReady] = []
        self.stores[0].meanwhile = self.stores[1].meanwhile = self.meanwhile
        self.next: tuple[Any, ...] = ("attention", 0)

    def clock(self) -> float:
        """Count."""
        self.ticks += 1
        return float(self.ticks)

    # What is done.

    def do(self, step: tuple[Any, ...]) -> None:
        """Do one step."""
        getattr(self, step[0])(*step[1:])

    def meanwhile(self) -> None:
        """
        Do what is to be done while the store is called; what would have the very
        connection receive can not be.
        """
        receives = self.next[0] in {"manage", "send"} or "logout" in self.next
        if not (receives and self.connections[self.next[1]].receiving):
            self.do(self.next)

    def inside(self, step: tuple[Any, ...]) -> None:
        """Have this be what is done while a store is called."""
        self.next = step

    def send(
        self, who: int, specs: list[Spec], cuts: list[int], hows: list[str]
    ) -> None:
        """Send commands, in chunks, and have the first store answer so."""
        one = self.ones[who]
        self.stores[0].plan.extend(hows)
        data = b"".join(self.encoded(one, spec) for spec in specs)
        at = 0
        for cut in [*sorted(cut % (len(data) or 1) for cut in cuts), len(data)]:
            if not one.connection.paused:
                one.feed(data[at:cut])
                at = cut

    def encoded(self, one: Initiator, spec: Spec) -> bytes:
        """Return a command as it is sent."""
        length = spec.blocks << 9
        expected = max(length + spec.more, 0)
        pdu = one.command(
            spec.cdb(),
            read=expected if spec.reads else 0,
            write=expected if spec.writes else 0,
            data=bytes((one.itt & 0xFF,)) * max(length + spec.data_more, 0)
            if spec.writes
            else b"",
            lun=spec.lun,
            attribute=spec.attribute,
            final=spec.final,
            immediate=spec.immediate,
        )
        if spec.way >= 0:
            pdu.flags = pdu.flags & 0x9F | spec.way
        pdu.cmd_sn += spec.ahead
        if spec.ahead:
            one.cmd_sn -= 1
        pdu.itt -= min(spec.tag, pdu.itt)
        data = one.encode(pdu)
        return corrupted(data, spec.turned % len(data)) if spec.turned else data

    def take(self, who: int) -> None:
        """Take the output, and note it."""
        side = self.ones[who].target_side
        side._woken = side._woken or bool(side.connection.output)
        self.seen.append(f"{who} {side.take().hex()}")

    def answer(self, lun: int, number: int, how: str) -> None:
        """Have a call of a store answered."""
        self.stores[lun].answer(number, how)

    def attention(self, who: int) -> None:
        """Have a unit attention pend."""
        for itl in self.sessions[who].nexus.itls.values():
            itl.unit.tell(itl, ASC.CAPACITY_DATA_HAS_CHANGED)

    def condition(self, lun: int) -> None:
        """Have a condition stop commands, or no more."""
        if self.conditions:
            self.units[lun].lift(self.conditions.pop())
        else:
            self.conditions.append(NotReady(ASC.MEDIUM_NOT_PRESENT))
            self.units[lun].impose(self.conditions[0])

    def stage(self, lun: int, point: str, holds: bool) -> None:
        """Put a stage there, or take one away."""
        if len(self.stages) > 1:
            unit, stage = self.stages.pop(0)
            unit.pipeline.remove(stage)
            if isinstance(stage, Keeps):
                stage.go()
            return
        stage = Keeps(point, point) if holds else Scripted(point, points=(point,))
        stage.seen = self.seen
        self.stages.append((self.units[lun], stage))
        self.units[lun].pipeline.add(stage)

    def tap(self, who: int) -> None:
        """Attach a tap, or detach one."""
        if self.taps:
            self.taps.pop().detach()
        else:
            tapped = self.connections[who].taps.attach(Script)
            self.taps += [tapped] if tapped is not None else []

    def read_only(self, lun: int, value: bool) -> None:
        """Have a LUN be read only, or not."""
        if lun in self.target.luns:
            self.target.replace_lun(lun, self.units[lun], read_only=value)

    def unmap(self, lun: int) -> None:
        """Take a LUN away, or put it there again."""
        if lun in self.target.luns:
            self.target.remove_lun(lun)
        else:
            self.target.add_lun(lun, self.units[lun])

    def resize(self, lun: int, size: int) -> None:
        """Have a store be smaller, or larger again."""
        self.stores[lun].size = size
        self.units[lun].volume.resized()

    def limit(self, lun: int, most: int) -> None:
        """Have commands transfer no more than so much."""
        self.units[lun].volume.configure(VolumeSettings(max_transfer=most))

    def lock(self, lun: int) -> None:
        """Have somebody be alone, or nobody."""
        if self.locks:
            unit, owner = self.locks.pop()
            unit.volume.release(owner)
        else:
            self.locks.append((self.units[lun], object()))
            self.units[lun].volume.hold(self.locks[0][1])

    def mode(self, lun: int, name: str, value: int) -> None:
        """Set a mode parameter."""
        self.units[lun].set_mode(name, value)
        self.units[lun].modes_changed()

    def reserve(self, lun: int, who: int) -> None:
        """Reserve a unit as SPC-2 has it, or release it."""
        unit = self.units[lun]
        if lun not in self.sessions[who].nexus.itls:
            return
        reservation, itl = unit.reservation, self.sessions[who].nexus.itls[lun]
        if reservation.held:
            reservation.reset()
        else:
            reservation.reserve(itl)

    def calm(self) -> None:
        """Have nothing be special that can be as usual again."""
        while self.stages:
            unit, stage = self.stages.pop()
            unit.pipeline.remove(stage)
            if isinstance(stage, Keeps):
                stage.go()
        for lun in (0, 1):
            self._calm_unit(lun)
        self.conditions.clear()
        for tap in self.taps:
            tap.detach()
        self.taps.clear()
        if self.locks:
            self.lock(0)
        for who, session in enumerate(self.sessions):
            if not self.connections[who].over:
                self.tight(who, 0)
                self.take(who)
            for itl in session.nexus.itls.values():
                itl.attentions.clear()

    def _calm_unit(self, lun: int) -> None:
        unit = self.units[lun]
        if self.conditions:
            unit.lift(self.conditions[0])
        self.limit(lun, 0)
        self.resize(lun, SIZE)
        for name, value in USUAL_MODES.items():
            self.mode(lun, name, value)
        unit.reservation.reset()
        if lun not in self.target.luns:
            self.unmap(lun)
        self.read_only(lun, False)
        while self.stores[lun].waiting:
            self.answer(lun, 0, "now")

    def long(self, who: int) -> None:
        """Have an answer be sent that is made as it is sent."""
        pdus = ((bytes((number & 0xFF,)) * 48, bytes(512)) for number in range(400))
        self.connections[who].send_in_parts(pdus, 400 * 512)

    def look(self) -> None:
        """Look at what is under way."""
        for unit in self.units:
            self.seen.append(f"looked {[_told(task) for task in unit.tasks()]}")

    def reset(self, lun: int) -> None:
        """Reset a unit."""
        self.units[lun].reset(lambda: self.seen.append("reset"))

    def manage(self, who: int, function: int, lun: int, back: int) -> None:
        """Have an initiator ask for a task management function."""
        one = self.ones[who]
        one.manage(function, lun=lun, tag=max(one.itt - back, 0))

    def tight(self, who: int, size: int) -> None:
        """Have the socket take less, or more."""
        self.connections[who].hold_back(size)
        self.connections[who].sent()

    def window(self, size: int) -> None:
        """Have the window be wider, or narrower."""
        self.limits.queued_commands = size
        for session in self.sessions:
            if not session.closed:
                session.settings_changed()

    def over(self, who: int, how: str) -> None:
        """Take no further command, or end."""
        if how == "drain":
            self.sessions[who].drain()
        elif how == "logout":
            self.ones[who].logout_sent()
        else:
            self.connections[who].disconnected()

    # What there is to be seen.

    def state(self) -> dict[str, Any]:
        """Return all that can be seen."""
        return {
            "seen": list(self.seen),
            "ticks": self.ticks,
            "calls": [list(store.calls) for store in self.stores],
            "bytes": [hash(bytes(one.inner.read(0, SIZE))) for one in self.stores],
            "connections": [self._connection(one) for one in self.connections],
            "sessions": [self._session(one) for one in self.sessions],
            "units": [self._unit(one) for one in self.units],
        }

    @staticmethod
    def _connection(one: Any) -> tuple[Any, ...]:
        output = [bytes(piece) for piece in one.output]
        digests = one.header_digest, one.data_digest, one.framer.damaged
        numbers = one.stat_sn, one.window.exp_cmd_sn, one.window.max_cmd_sn
        rest = one.window.owed, one.phase, one.over, one.why, one.framer.buffered
        return output, one.output_bytes, digests, numbers, rest

    def _session(self, one: Any) -> tuple[Any, ...]:
        writes = one.writes
        counts = one.commands, one.none_commands, one.read_bytes, one.ordering.immediate
        written = writes.commands, writes.written, writes.held, writes.held_bytes
        tasks = [_told(task) for task in one.tasks.values()]
        parked = [task.tag for task in one.reads.parked]
        held = list(one.ordering.held)
        unaligned = list(one.nexus.unaligned)
        return counts, repr(written), unaligned, tasks, parked, held, one.closed

    @staticmethod
    def _unit(unit: Any) -> tuple[Any, ...]:
        counters = unit.volume.counters
        kinds = [attrs.astuple(one) for one in counters.by_kind]
        worked = counters._at_work, counters._since, counters._worked
        told = [list(one.attentions) for one in unit.itls]
        sets = [
            [(task.tag, task.enabled, task.started) for task in itl.task_set.tasks]
            for itl in unit.itls
        ]
        blocking = [(one.task_set.blocking, one.task_set.heads) for one in unit.itls]
        return kinds, worked, told, sets, blocking, unit.statistics.non_medium


_SKIPPED = {"itl", "done", "context", "row", "admission", "abandon", "watchers"}


def _told(task: Task) -> dict[str, Any]:
    """
    Return what a task says of itself, and the command that it was.
    """
    found = {
        field.name: getattr(task, field.name)
        for field in attrs.fields(Task)
        if field.name not in _SKIPPED
    }
    return found | {
        "data_out": bytes(task.data_out),
        "error": repr(task.error),
        "failure": repr(task.failure),
        "row": None if task.row is None else task.row.name,
        "lun": task.itl.lun,
        "context": attrs.astuple(
            attrs.evolve(task.context, data=bytes(task.context.data))
        ),
        "has": (task.admission is None, task.abandon is None, not task.watchers),
    }
