# SPDX-License-Identifier: MIT
"""
An initiator that recovers from what its link does.

`Recoverer` is the other side of error recovery levels 0, 1 and 2 (RFC 7143 section 7):
it keeps track of StatSN, DataSN and R2TSN, asks with SNACK, repeats commands with their
CmdSN, logs connections out for recovery and reassigns tasks; over one connection or
several.  Everything is in memory, and the only clock is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scstd.protocols.engine.snack import SNACKType
from scstd.protocols.wire.codes import FINAL, IMMEDIATE
from scstd.protocols.wire.pdu import LogoutRequest, NOPOut, TaskManagementRequest
from scstd.protocols.wire.serial import less
from scstd.scsi.sam import TaskManagementFunction
from scstd.test.badlink import Path, Work
from scstd.test.conversing import Conversation, HungError

MOST_STALLS = 400
"""Stalls in a row after which a command counts as hung."""


class Recoverer(Conversation):
    """
    A session of one or several connections over a bad link, that recovers.
    """

    # When something is missing.

    def stall(self) -> None:
        """
        Nothing comes any more, but commands are not over: find out why.
        """
        self.now += 4.0
        self.node.tick(self.now)
        for path in self.paths:
            path.connection.tick(self.now)
            self.itt += 1
            self.send(path, NOPOut(first=IMMEDIATE, itt=self.itt, cmd_sn=self.cmd_sn))
            if self.level:
                self.snack(path, SNACKType.STATUS, path.missing())
        if not self.level:
            return
        for work in list(self.works.values()):
            path = work.path
            if not less(work.pdu.cmd_sn, self.exp_cmd_sn):
                self._command(work)
            elif work.status >= 0:
                self._look(work)
            elif work.writes:
                self.snack(path, SNACKType.DATA, len(work.r2ts), itt=work.pdu.itt)

    def settle(self, over: Callable[[], bool]) -> None:
        """
        Go on until *over* says so.
        """
        stalls = 0
        while not over():
            if self.step():
                continue
            self.let_go()
            if self.step():
                continue
            stalls += 1
            if stalls > MOST_STALLS:
                raise HungError(list(self.works.values()))
            self.stall()

    # Connections that are lost.

    def lost(self, path: Path) -> None:
        """
        A connection is gone: do what the level allows.
        """
        self.paths.remove(path)
        faithful, self.faithful = self.faithful, True
        try:
            if not self.level:
                self._start_over()
            elif self.level == 1:
                self._continue(path)
            else:
                self._recover(path)
        finally:
            self.faithful = faithful

    def _start_over(self) -> None:
        works, self.works = list(self.works.values()), {}
        for path in self.paths:
            path.connection.disconnected()
        self._open()
        for work in works:
            self.again(work)

    def _replace(self, path: Path, cid: int) -> Path:
        try:
            fresh = self.login(cid)
        except ConnectionError as error:
            raise HungError(f"login refused: {error}") from error
        self.paths.append(fresh)
        return fresh

    def _continue(self, path: Path) -> None:
        """
        Level 1: the tasks are gone, the session is not (sections 6.3.4 and 6.3.6).
        """
        fresh = self._replace(path, path.cid)
        for work in [one for one in self.works.values() if one.path is path]:
            if less(work.pdu.cmd_sn, self.exp_cmd_sn):
                del self.works[work.pdu.itt]
                self.again(work)
            else:
                work.path = fresh
                self._command(work)

    def _recover(self, path: Path) -> None:
        """
        Level 2: reassign the tasks (section 7.2.2).
        """
        if self.rng.random() < 0.5:
            # A login with the same CID logs the old connection out.
            fresh = self._replace(path, path.cid)
        else:
            self.cid = self.cid % 0xFFFF + 1
            if len(self.paths) + 1 > 8:
                raise AssertionError("too many connections")
            fresh = self._replace(path, self.cid)
            self.itt += 1
            tag = self.itt
            logout = LogoutRequest(
                first=0x06 | IMMEDIATE,
                flags=FINAL | 2,
                itt=tag,
                cid=path.cid,
                cmd_sn=self.cmd_sn,
            )
            self._ask(fresh, logout, tag)
            assert self.answers.pop(tag).response == 0
        for work in [one for one in self.works.values() if one.path is path]:
            if not less(work.pdu.cmd_sn, self.exp_cmd_sn):
                work.path = fresh
                self._command(work)
                continue
            self._reassign(work, fresh)

    def _reassign(self, work: Work, fresh: Path) -> None:
        self.counts["reassign"] += 1
        begin = work.contiguous()
        # What was not acknowledged comes again.
        work.got = {number: work.got[number] for number in range(begin)}
        work.status, work.count = -1, -1
        work.path = fresh
        self.itt += 1
        tag = self.itt
        request = TaskManagementRequest(
            first=0x02 | IMMEDIATE,
            flags=FINAL | TaskManagementFunction.TASK_REASSIGN,
            itt=tag,
            referenced_task_tag=work.pdu.itt,
            cmd_sn=self.cmd_sn,
            exp_data_sn=begin,
        )
        self._ask(fresh, request, tag)
        response = self.answers.pop(tag).response
        assert response == 0, response

    def _ask(self, path: Path, pdu: Any, tag: int) -> None:
        self._deliver(path, pdu)
        for answer in path.output():
            self._arrive(path, answer)
        assert tag in self.answers, pdu
