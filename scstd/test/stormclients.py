# SPDX-License-Identifier: MIT
"""
The initiators of a storm (`scstd.test.storm`): each does several things at once, and
knows what of it has ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, ClassVar

from scstd.initiator.commands import read10, write10
from scstd.initiator.connection import has_status
from scstd.protocols.wire.codes import RESERVED_TAG, STATUS, AsyncEvent
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataIn,
    LoginResponse,
    LogoutResponse,
    NOPIn,
    NOPOut,
    Reject,
    SCSIResponse,
    TaskManagementResponse,
)
from scstd.protocols.wire.text import decode
from scstd.scsi.sam import TaskManagementFunction
from scstd.test.copying import list_1, naa, segment, xcopy
from scstd.test.initiator import Initiator
from scstd.test.storming import BLOCK, Wire, Work, store_of
from scstd.test.stormwords import COMMANDS, WORDS

KEYS = (
    ("HeaderDigest", "CRC32C"),
    ("ErrorRecoveryLevel", "2"),
    ("DefaultTime2Retain", "3"),
    ("DefaultTime2Wait", "0"),
    ("MaxConnections", "4"),
    ("ImmediateData", "No"),
)
"""What some of them offer."""

SPOILS = (0x04, 0x48)
"""FORMAT UNIT and SANITIZE: nobody knows what is on the medium after."""


class Client(Initiator):
    """
    An initiator on a wire, that does several things at once.

    *works* are its commands under way by tag; *managing* the functions, with the works
    that they end.
    """

    def __init__(
        self, node: Any, wire: Wire, rng: random.Random, faults: list[str]
    ) -> None:
        isid = b"\x80\0\0\0\0" + bytes((rng.randint(1, 2),))
        super().__init__(node, name=rng.choice(WORDS["i"][:3]), isid=isid)
        self.node, self.wire, self.rng, self.faults = node, wire, rng, faults
        self.connection = wire.protocol.connection
        self.target = ""
        self.full = self.over = False
        self.polite = rng.random() < 0.85
        """Whether it answers what it is asked for."""
        self.naca = rng.random() < 0.3
        """Whether it asks for auto contingent allegiance."""
        self.max_cmd_sn = 100
        self.works: dict[int, Work] = {}
        self.managing: dict[int, list[Work]] = {}

    def _feed(self, data: bytes) -> None:
        if not (self.wire.closed or self.wire.closing):
            self.wire.protocol.dataReceived(data)

    def begin(self, target: str) -> None:
        """
        Send a Login Request.
        """
        self.target = target
        rng = self.rng
        offers = [("InitiatorName", self.name), ("SessionType", "Normal")]
        offers.append(("TargetName", target))
        offers += [one for one in KEYS if rng.random() < 0.3]
        sessions = [
            one for one in self.node.sessions() if one.nexus.target.name == target
        ]
        if sessions and rng.random() < 0.2:
            # A further connection, or one in the place of another.
            joined = rng.choice(sessions)
            self.isid = joined.isid
            self.cmd_sn = joined.window.exp_cmd_sn
            offers[0] = ("InitiatorName", joined.initiator)
            request = self.login_request(offers, tsih=joined.tsih, cid=rng.randrange(3))
        else:
            request = self.login_request(offers)
        self.send(request)

    @property
    def room(self) -> bool:
        """Whether it may send a command."""
        ahead = self.max_cmd_sn - self.cmd_sn & 0xFFFFFFFF
        return self.full and not self.over and ahead < 1 << 31

    def read(self) -> None:
        """
        Read what there is, and do what that asks for.
        """
        self.framer.feed(self.wire.taken())
        while (pdu := self.framer.next()) is not None:
            answer: Any = pdu
            if has_status(answer):
                self.exp_stat_sn = (answer.stat_sn + 1) & 0xFFFFFFFF
            if not isinstance(answer, LoginResponse):
                self.max_cmd_sn = answer.max_cmd_sn
            self.HANDLERS[type(answer)](self, answer)
        if self.wire.closed and not self.over:
            self.over = True
            self.full = False

    def _login(self, pdu: LoginResponse) -> None:
        if pdu.status_class:
            self.over = True
            return
        self.full = True
        self.max_cmd_sn = pdu.max_cmd_sn
        keys = dict(decode(bytes(pdu.data)))
        self.header_digest = keys.get("HeaderDigest") == "CRC32C"
        self.framer.header_digest = self.header_digest
        self.connection.when_cleaned_up(self._gone)

    def _gone(self) -> None:
        for work in self.works.values():
            work.end(None)

    def _data_in(self, pdu: DataIn) -> None:
        work = self.works[pdu.itt]
        at = pdu.buffer_offset
        if len(work.got) < at + len(pdu.data):
            work.got.extend(bytes(at + len(pdu.data) - len(work.got)))
        work.got[at : at + len(pdu.data)] = pdu.data
        if pdu.flags & STATUS:
            self._over(pdu.itt, pdu.status)

    def _response(self, pdu: SCSIResponse) -> None:
        self._over(pdu.itt, pdu.status)

    def _over(self, itt: int, status: int) -> None:
        self.works.pop(itt).end(status)

    def _r2t(self, pdu: R2T) -> None:
        if self.polite:
            self.send(*self.data_out(pdu, self.works[pdu.itt].data))

    def _nop_in(self, pdu: NOPIn) -> None:
        if pdu.ttt != RESERVED_TAG and self.polite:
            self.send(NOPOut(first=0x40, ttt=pdu.ttt, cmd_sn=self.cmd_sn))

    def _event(self, pdu: AsynchronousMessage) -> None:
        if pdu.async_event == AsyncEvent.LOGOUT_REQUEST and self.polite:
            self.leave()

    def leave(self) -> None:
        """
        Log out.
        """
        if self.full:
            self.full = False
            self.logout_sent()

    def _logged_out(self, _pdu: LogoutResponse) -> None:
        self.over = True
        for work in self.works.values():
            work.end(None)

    def _managed(self, pdu: TaskManagementResponse) -> None:
        for work in self.managing.pop(pdu.itt):
            if not pdu.response:
                work.end(None)
                for itt in [one for one, it in self.works.items() if it is work]:
                    del self.works[itt]

    def _rejected(self, pdu: Reject) -> None:
        self.faults.append(f"rejected: {pdu.reason} {bytes(pdu.data).hex()}")

    HANDLERS: ClassVar[dict[type[Any], Callable[[Client, Any], None]]] = {
        LoginResponse: _login,
        DataIn: _data_in,
        SCSIResponse: _response,
        R2T: _r2t,
        NOPIn: _nop_in,
        AsynchronousMessage: _event,
        LogoutResponse: _logged_out,
        TaskManagementResponse: _managed,
        Reject: _rejected,
    }

    def behave(self) -> None:
        """
        Answer what it is asked for, clear auto contingent allegiances, and wait for no
        command that was aborted: there is no answer.
        """
        self.polite = True
        session = self.connection.session
        for itt, work in list(self.works.items()):
            task = work.task
            if task is not None and task.finished and task.aborted:
                work.end(None)
                del self.works[itt]
        if self.full and self.naca and session is not None:
            for lun in list(session.nexus.itls):
                self.managing[self.itt + 1] = []
                field = lun if lun < 256 else 0x4000 | lun
                self.manage(TaskManagementFunction.CLEAR_ACA, lun=field)

    # What it does by itself.

    def act(self, works: dict[bytes, Work]) -> None:
        """
        Do something; *works* are the commands of the whole storm.
        """
        self.read()
        chance = self.rng.random()
        if chance < 0.015:
            self.wire.close()
        elif chance < 0.025:
            self.leave()
        elif chance < 0.08 and self.full:
            self._function()
        else:
            for _one in range(self.rng.randint(1, 4)):
                session = self.connection.session
                if session is None or self.connection.paused or not self.full:
                    return
                window = session.window
                # Its connections are in step: all of it arrives at once.
                self.cmd_sn, self.max_cmd_sn = window.exp_cmd_sn, window.max_cmd_sn
                if self.room:
                    self._command(session.nexus.itls, works)

    def _function(self) -> None:
        """
        Ask for a task management function.
        """
        function = self.rng.choice((1,) * 8 + (2, 2, 3, 4, 5, 5, 6, 7))
        ends: list[Work] = []
        lun, tag = 0, RESERVED_TAG
        if function > 1:
            lun = int(self.rng.choice(WORDS["lun"]))
        elif self.works:
            tag = self.rng.choice(list(self.works))
            ends.append(self.works[tag])
        self.managing[self.itt + 1] = ends
        self.manage(function, lun=lun, tag=tag)

    def _command(self, itls: dict[int, Any], works: dict[bytes, Work]) -> None:
        """
        Send a command.
        """
        rng = self.rng
        lun = int(rng.choice(WORDS["lun"]))
        if itls and rng.random() < 0.8:
            lun = rng.choice(list(itls))
        store = store_of(itls[lun].unit) if lun in itls else None
        work = Work(len(works) + 1, store, rng.randrange(100))
        tag = work.number.to_bytes(16, "big")
        chance, count = rng.random(), 0
        if chance < 0.4 and store is not None:
            if not store.begin(work, tag):
                return
            cdb = write10(work.lba, 1, fua=rng.random() < 0.3)
        elif chance < 0.6 and store is not None:
            work.floor, work.on_end = store.floors.get(work.lba, 0), store.was_read
            cdb, count = read10(work.lba, 1), BLOCK
        elif chance < 0.64 and store is not None:
            units = [itls[lun].unit, rng.choice(list(itls.values())).unit]
            segments = [segment(rng.randint(1, 40), 1024, 1100)] * rng.randint(1, 3)
            number = rng.randrange(9)
            work.data = list_1(list(map(naa, units)), segments, list_id=number)
            cdb = xcopy(work.data)
        else:
            text, count, work.data = rng.choice(COMMANDS)
            cdb = bytes.fromhex(text)
            if store is not None and cdb[0] in SPOILS:
                store.spoiled = True
        if self.naca and rng.random() < 0.1:
            # The NACA bit of the control byte (SAM-5, Auto contingent allegiance).
            cdb = cdb[:-1] + b"\x04"
        pdu = self.command(cdb, read=count, write=len(work.data))
        # Flat space addressing from 256 on (SAM-5 section 4.7).
        pdu.lun = (lun if lun < 256 else 0x4000 | lun) << 48
        if self.connection.parameters.immediate_data and rng.random() < 0.6:
            pdu.data = work.data
        pdu.flags = pdu.flags & ~7 | rng.choice(
            (1,) * 8 + (2, 3, 4 if self.naca else 1)
        )
        pdu.itt = work.number
        works[tag] = self.works[pdu.itt] = work
        session = self.connection.session
        self.send(pdu)
        work.task = None if session is None else session.tasks.get(pdu.itt)
