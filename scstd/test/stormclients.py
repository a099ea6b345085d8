# SPDX-License-Identifier: MIT
"""
The initiators of a storm (`scstd.test.storm`): each does several things at once, and
knows what of it has ended.
"""

from __future__ import annotations

import random
from typing import Any

from scstd.initiator.commands import read10, write10
from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.login import LoginOptions, LoginRefused
from scstd.initiator.session import InitiatorSession
from scstd.initiator.tasks import InitiatorTask
from scstd.protocols.wire.codes import RESERVED_TAG, TaskManagementCode
from scstd.protocols.wire.pdu import Reject
from scstd.test.copying import list_1, naa, segment, xcopy
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


class Client(InitiatorSession):
    """
    An initiator on a wire, that does several things at once.
    """

    def __init__(
        self, node: Any, wire: Wire, rng: random.Random, faults: list[str]
    ) -> None:
        isid = b"\x80\0\0\0\0" + bytes((rng.randint(1, 2),))
        super().__init__(rng.choice(WORDS["i"][:3]), isid, cmd_sn=100)
        self.node, self.wire, self.rng, self.faults = node, wire, rng, faults
        self.target_side = wire.protocol.connection
        self.link = InitiatorConnection(wake=self._flush)
        # Commands have the numbers of their works.
        self.itt = 1 << 30
        self.target = ""
        self.answers = rng.random() < 0.85
        self.naca = rng.random() < 0.3
        """Whether it asks for auto contingent allegiance."""
        self.works: dict[int, Work] = {}
        """What is under way, by tag."""

    def _flush(self) -> None:
        data = self.link.take_output()
        if data and not (self.wire.closed or self.wire.closing):
            self.wire.protocol.dataReceived(data)

    def begin_login(self, target: str) -> None:
        """
        Send a Login Request.
        """
        self.target = target
        rng = self.rng
        keys = [one for one in KEYS if rng.random() < 0.3]
        self.options = LoginOptions(target, keys)
        sessions = [
            one for one in self.node.sessions() if one.nexus.target.name == target
        ]
        if sessions and rng.random() < 0.2:
            # A further connection, or one in the place of another.
            joined = rng.choice(sessions)
            self.isid, self.name = joined.isid, joined.initiator
            self.cmd_sn = joined.window.exp_cmd_sn
            self.tsih = joined.tsih
            self.link.cid = rng.randrange(3)
        self.connect(connection=self.link, on_login=self._logged_in)

    def _logged_in(self, error: LoginRefused | None) -> None:
        if error is None:
            self.target_side.when_cleaned_up(self._gone)

    def _gone(self) -> None:
        for work in list(self.works.values()):
            work.end(None)

    def read(self) -> None:
        """
        Read what there is, and do what that asks for.
        """
        self.receive_data(self.link, self.wire.taken())
        self._flush()
        if self.wire.closed:
            self.lost(self.link, "the wire is closed")

    def take(self, connection: InitiatorConnection, pdu: Any) -> None:
        """Nothing that it sends may be rejected."""
        if isinstance(pdu, Reject):
            self.faults.append(f"rejected: {pdu.reason} {bytes(pdu.data).hex()}")
        super().take(connection, pdu)

    def _ended(self, task: InitiatorTask) -> None:
        """
        Note how a command has ended; one without a status goes on until the target has
        let it go, if nobody logged out.
        """
        if task.ended or self.why == "logged out":
            work = self.works.pop(task.itt)
            work.got += task.read_data()
            work.end(task.status if task.ended else None)

    def asked_to_leave(self, connection: InitiatorConnection) -> None:
        """Log out, if that is not under way."""
        self.leave()

    def leave(self) -> None:
        """
        Log out.
        """
        if self.link.full:
            self.link.full = False
            self.logout(self.link)

    def function(self, function: int, ends: list[Work], **fields: int) -> None:
        """
        Ask for a task management function, which ends some works.
        """

        def answered(pdu: Any) -> None:
            if pdu is not None and not pdu.response:
                for work in ends:
                    self._aborted(work)

        request = self.task_management_request(function, **fields)
        self.request(request, answered, self.link)

    def _aborted(self, work: Work) -> None:
        work.end(None)
        self.works.pop(work.number, None)
        self.tasks.pop(work.number, None)

    def behave(self) -> None:
        """
        Answer what it is asked for, clear auto contingent allegiances, and wait for no
        command that was aborted: there is no answer.
        """
        self.answers = True
        session = self.target_side.session
        for work in list(self.works.values()):
            task = work.task
            if task is not None and task.finished and task.aborted:
                self._aborted(work)
        if self.link.full and self.naca and session is not None:
            for lun in list(session.nexus.itls):
                self.function(TaskManagementCode.CLEAR_ACA, [], lun=lun)

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
        elif chance < 0.08 and self.link.full:
            self._function()
        else:
            for _one in range(self.rng.randint(1, 4)):
                session = self.target_side.session
                paused = self.target_side.paused
                if session is None or paused or not self.link.full:
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
        self.function(function, ends, lun=lun, tag=tag)

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
        immediate = self.link.parameters.immediate_data and rng.random() < 0.6
        pdu = self.command(
            cdb,
            read=count,
            write=len(work.data),
            data=work.data if immediate else b"",
            lun=lun,
            attribute=rng.choice((1,) * 8 + (2, 3, 4 if self.naca else 1)),
        )
        pdu.itt = work.number
        works[tag] = self.works[pdu.itt] = work
        task = InitiatorTask(pdu, work.data, on_end=self._ended)
        self.tasks[pdu.itt] = task
        session = self.target_side.session
        self.send_command(task, self.link)
        work.task = None if session is None else session.tasks.get(pdu.itt)
