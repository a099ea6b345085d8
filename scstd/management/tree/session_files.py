# SPDX-License-Identifier: MIT
"""
Sessions in the tree: ``targets/DRIVER/TARGET/sessions/INITIATOR``.

A second session of one initiator is ``INITIATOR_1``.  What a driver has to say of a
session (`ITargetDriverInstance.report`) are its files; writing ``force_close`` ends it.
``latency`` has a file for each kind of command that was measured: a line a state, with
count, shortest, longest and mean, in microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any

from scstd.interfaces import ITargetDriverInstance
from scstd.management.monitor.counters import COUNTERS, SessionCounters
from scstd.management.monitor.monitoring import Watching
from scstd.management.tree.nodes import Directory, Entry, File, Link
from scstd.scsi.nexus import Nexus
from scstd.scsi.sam import ITL
from scstd.scsi.target import Target


def session_names(driver: ITargetDriverInstance, target: Target) -> dict[str, Any]:
    """
    Return a target's sessions by the name each has in the tree.
    """
    found: dict[str, Any] = {}
    for session in driver.sessions():
        if session.nexus.target is not target:
            continue
        name, count = session.initiator, 0
        while name in found:
            count += 1
            name = f"{session.initiator}_{count}"
        found[name] = session
    return found


def sessions_directory(
    driver: ITargetDriverInstance, target: Target, path: str, watching: Watching
) -> Directory:
    """
    Return the directory of a target's sessions.
    """
    return Directory(
        names=lambda: session_names(driver, target),
        make=lambda name: _session(
            driver, session_names(driver, target)[name], path, watching
        ),
    )


def _session(
    driver: ITargetDriverInstance, session: Any, path: str, watching: Watching
) -> Directory:
    nexus = session.nexus
    chosen = nexus.group
    where = "luns" if chosen is None else f"ini_groups/{chosen.name}/luns"
    fixed: dict[str, Entry] = {
        "luns": Link(f"{path}/{where}"),
        "force_close": File(
            writer=lambda _: driver.end_session(session, "closed by the administrator")
        ),
    }
    for name in driver.report(session):
        fixed[name] = File(partial(_read, driver, session, name))
    fixed.update(_counters(watching.counters, driver, session))
    for lun, itl in sorted(nexus.itls.items()):
        fixed[f"lun{lun}"] = _lun(itl)
    fixed["latency"] = _latency(watching, nexus)
    return Directory(fixed)


def _read(driver: ITargetDriverInstance, session: Any, name: str) -> str:
    report: Mapping[str, Any] = driver.report(session)
    return str(report[name])


def _latency(watching: Watching, nexus: Nexus) -> Directory:
    return Directory(
        names=lambda: watching.latency.of(nexus),
        make=lambda kind: File(lambda: watching.latency.of(nexus)[kind]),
    )


def _lun(itl: ITL) -> Directory:
    return Directory(
        {
            "device": Link(f"devices/{itl.unit.name}"),
            "active_commands": File(lambda: str(len(itl.unit.tasks_of(itl)))),
            "unit_attentions": File(
                lambda: "\n".join(f"{one.asc:04x}" for one in itl.attentions)
            ),
            "read_only": File(lambda: "1" if itl.read_only else "0"),
        }
    )


def _counters(
    counters: SessionCounters, driver: ITargetDriverInstance, session: Any
) -> dict[str, File]:
    """
    Return a session's files; writing to one sets those of its direction to nothing.
    """

    def file(name: str) -> File:
        return File(
            lambda: str(counters.values(driver, session)[name]),
            lambda _text: counters.reset(driver, session, name),
        )

    return {name: file(name) for name in COUNTERS}


def sums_of_sessions(
    counters: SessionCounters,
    driver: ITargetDriverInstance,
    sessions: Callable[[], Iterable[Any]],
) -> dict[str, File]:
    """
    Return files of the sums over sessions.  There may be many: they are asked once,
    when the first of these files is read, which live as long as somebody looks.
    """

    @cache
    def sums() -> dict[str, int]:
        every = [counters.values(driver, session) for session in sessions()]
        return {name: sum(one[name] for one in every) for name in COUNTERS}

    def file(name: str) -> File:
        return File(lambda: str(sums()[name]))

    return {name: file(name) for name in COUNTERS}
