# SPDX-License-Identifier: MIT
"""
The files of the tree about what is going on: trace, commands under way, suspending.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping
from typing import Any

from scstd.attributes import ConfigurationError, Integer
from scstd.blocking import threads_at
from scstd.management.errors import TreeError
from scstd.management.grammar import scst_words
from scstd.management.grammar.scst_words import Left
from scstd.management.model.trace_level import TraceLevel
from scstd.management.model.warnings import warn
from scstd.management.monitor.monitoring import Watching
from scstd.management.monitor.trace import command, progress
from scstd.management.system import System
from scstd.management.tree.nodes import Attributes, Entry, File
from scstd.scsi.unit import LogicalUnit


def watching_files(system: System, own: Attributes) -> dict[str, Entry]:
    """
    Return the files of the root; *own* are the attributes there.
    """
    return {
        "trace_level": _trace_level(system, own),
        "trace_cmds": File(lambda: _commands(system)),
        "trace_mcmds": File(lambda: _functions(system)),
        "suspend": _suspend(system.watching),
        "threads": _threads(system),
    }


def _trace_level(system: System, own: Attributes) -> File:
    """
    The attribute, which takes SCST's verbs too.
    """

    def write(text: str) -> Any:
        before = system.values["trace_level"]
        try:
            level = TraceLevel().change(before, text)
        except ConfigurationError as error:
            raise TreeError(errno.EINVAL, f"trace_level: {text!r}: {error}") from None
        return system.set_root("trace_level", level)

    return File(own.files()["trace_level"].reader, write)


def taken(which: str, words: Mapping[str, Left], name: str, text: str) -> None:
    """
    Take what only SCST's kernel modules mean, and say what takes its place.
    """
    if not words[name].says_nothing(text):
        warn(f"{which}: {name} {text}: {words[name].warning()}")


def _threads(system: System) -> File:
    """
    How many threads there are; or what SCST's tool was told to have, and has to find.
    """

    def read() -> str:
        there = threading.active_count()
        wanted = system.threads
        return f"{wanted}\n{there} in use" if wanted else str(there)

    def write(text: str) -> None:
        try:
            wanted = Integer(1, 65535).parse(text)
        except ConfigurationError as error:
            raise TreeError(errno.EINVAL, f"threads: {text!r}: {error}") from None
        taken("threads", scst_words.ROOT, "threads", text)
        system.threads = wanted

    return File(read, write)


def _commands(system: System) -> str:
    units = [device.unit for device in system.devices.values()]
    for target in system.drivers.targets.values():
        units += [target.absent, target.well_known]
    return "\n".join(
        f"{command(task)}, {progress(task)}" for unit in units for task in unit.tasks()
    )


def _functions(system: System) -> str:
    lines = []
    for driver in system.drivers.values():
        for session in driver.instance.sessions():
            report: Mapping[str, Any] = driver.instance.report(session)
            said = str(report.get("task_management", ""))
            lines += [
                f"{session.initiator} {session.nexus.target.qualified_name}: {line}"
                for line in said.splitlines()
            ]
    return "\n".join(lines)


def _suspend(watching: Watching) -> File:
    def write(text: str) -> Any:
        try:
            seconds = Integer(-(2**31), 2**31).parse(text)
        except ConfigurationError as error:
            raise TreeError(errno.EINVAL, f"suspend: {text!r}: {error}") from None
        return watching.suspend(seconds)

    return File(lambda: "1" if watching.suspended else "0", write, patient=True)


def threads_of(system: System, name: str) -> int:
    """
    Return how many threads are at work for a device's store now (`scstd.blocking`).
    """
    return threads_at(system.reactor, name)


def block_file(watching: Watching, unit: LogicalUnit) -> File:
    """
    Return a device's ``block``: whether it is, and how many commands wait.
    """

    def read() -> str:
        blocked = "block" in watching.holds.by(unit)
        return f"{int(blocked)} {watching.holds.waiting(unit)}"

    return File(read, lambda text: watching.block(unit, text), patient=True)
