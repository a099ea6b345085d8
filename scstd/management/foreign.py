# SPDX-License-Identifier: MIT
"""
What SCST's scst.conf may have and we do not: taken, with a warning that says what takes
its place, so that a file from there can be used as it is.

A row a word, by the block in which it stands.  What an installed handler or driver
knows itself is not looked at: a plugin may have what we have not.  A word that neither
SCST nor we know stays a mistake.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from scstd.attributes import Attribute, ConfigurationError
from scstd.management.rows import (
    ROOT_ATTRIBUTES,
    device_rows,
    driver_rows,
    group_rows,
)
from scstd.management.scstconf import MistakeError, Statement, Word
from scstd.plugin import (
    device_handlers,
    find_device_handler,
    find_target_driver,
    target_drivers,
)

_THREADS = "a store has the threads that it needs"
_CPU = "the processors of the process are what the service manager says (CPUAffinity)"
_FIXED = "it is not to be set here"
_DIF = "there is no protection information"
_KERNEL = "it is about a kernel module"
_SEEN = "it can only be read"

DEVICE: Mapping[str, str] = {
    "active": "a device is open while it is there",
    "async": "reads and writes never wait for each other",
    "bind_alua_state": "access states leave the file open",
    "dif_filename": _DIF,
    "dif_mode": _DIF,
    "dif_static_app_tag": _DIF,
    "dif_type": _DIF,
    "nv_cache": "caches are flushed when initiators ask; write_through reports WCE=0",
    "numa_node_id": _CPU,
    "o_direct": "the page cache is used; write_through makes each write durable",
    "pr_file_name": "reservations are in the state directory",
    "read_zero": "vdisk_nullio reads zeros always",
    "threads_num": _THREADS,
    "threads_pool_type": _THREADS,
    "zero_copy": "bytes are not copied where they need not be",
    **dict.fromkeys(("block", "dump_prs", "pr_state", "type", "usn_set"), _SEEN),
}

TARGET: Mapping[str, str] = {
    "cpu_mask": _CPU,
    "DataPDUInOrder": _FIXED,
    "DataSequenceInOrder": _FIXED,
    "dif_capabilities": _DIF,
    "forward_dst": "commands are not forwarded",
    "forward_src": "commands are not forwarded",
    "forwarding": "commands are not forwarded",
    "IFMarker": _FIXED,
    "IFMarkInt": _FIXED,
    "io_grouping_type": _KERNEL,
    "MaxXmitDataSegmentLength": "initiators say how much they take",
    "OFMarker": _FIXED,
    "OFMarkInt": _FIXED,
    "per_sess_dedicated_tgt_threads": "there are no threads for sessions",
    "RDMAExtensions": "there is no iSER",
    "tid": _SEEN,
}

DRIVER: Mapping[str, str] = {
    "link_local": "portals are where `portal` says",
    "open_state": _SEEN,
    "trace_level": "it is an attribute of the whole",
    "version": _SEEN,
}

ROOT: Mapping[str, str] = {
    "async_lun_replace": "LUNs are replaced without waiting for commands",
    "auto_cm_assignment": "copies see the LUNs that their initiator sees",
    "cluster_name": "nodes do not know each other",
    "force_global_sgv_pool": _KERNEL,
    "max_tasklet_cmd": _KERNEL,
    "poll_us": _KERNEL,
    "suspend": "it is not kept in files",
    "threads": _THREADS,
}

HANDLER: Mapping[str, str] = {
    "trace_level": "it is an attribute of the whole",
    "type": _SEEN,
}

PASSED_THROUGH = frozenset(
    (
        "dev_changer",
        "dev_cdrom",
        "dev_cdrom_perf",
        "dev_disk",
        "dev_disk_perf",
        "dev_modisk",
        "dev_modisk_perf",
        "dev_processor",
        "dev_raid",
        "dev_tape",
        "dev_tape_perf",
        "dev_user",
    )
)
"""Handlers of SCST for devices that are passed through."""

DRIVERS: Mapping[str, str] = {
    "copy_manager": "copies need no target of their own",
    **dict.fromkeys(
        (
            "fcst",
            "ib_srpt",
            "ibmvstgt",
            "isert",
            "qla2x00t",
            "scst_local",
            "usb_gadget",
        ),
        "there is no such target driver: its targets are left out",
    ),
}
"""Target drivers of SCST that are for other transports."""


@attrs.define
class Translator:
    """
    Takes the statements of one file; `warnings` has what was said of them.
    """

    _said: list[MistakeError] = attrs.field(factory=list)
    _gone: set[str] = attrs.field(factory=set)
    """Devices that are left out."""

    def _warn(self, word: Word, why: str) -> None:
        self._said.append(word.wrong(why))

    @property
    def warnings(self) -> list[str]:
        """What was said of them, in the file's order."""
        return [str(one) for one in sorted(self._said, key=lambda one: one.place)]

    def whole(self, statements: Iterable[Statement]) -> list[Statement]:
        """
        Return the statements that are ours.
        """
        kept = self._attributes(ROOT, _names(ROOT_ATTRIBUTES), statements)
        # Devices come first, wherever they stand.
        kept = [self._handler(one) for one in kept if not self._passed_through(one)]
        return [self._other(one) for one in kept if not self._other_driver(one)]

    def _attributes(
        self,
        words: Mapping[str, str],
        known: Collection[str],
        statements: Iterable[Statement],
    ) -> list[Statement]:
        """
        Return the statements without attributes that only SCST has.
        """
        kept = []
        for one in statements:
            name = one.keyword.text
            if one.body is not None or name in known or name not in words:
                kept.append(one)
            elif _text(one) not in {"", "0", "-1", "none"}:
                self._warn(one.keyword, f"taken, and left out: {words[name]}")
        return kept

    # Devices.

    def _passed_through(self, block: Statement) -> bool:
        name = _argument(block, "HANDLER")
        if name not in PASSED_THROUGH - {one.name for one in device_handlers()}:
            return False
        self._warn(
            block.words[1], "devices are not passed through: its devices are left out"
        )
        self._gone.update(_argument(one, "DEVICE") for one in block.body or ())
        return True

    def _handler(self, block: Statement) -> Statement:
        name = _argument(block, "HANDLER")
        try:
            known = _names(device_rows(find_device_handler(name)))
        except ConfigurationError:
            return block
        if block.body is None:
            return block
        body = self._attributes(HANDLER, (), block.body)
        return attrs.evolve(
            block,
            body=tuple(
                self._device(one, known) for one in body if not self._dummy(one, known)
            ),
        )

    def _dummy(self, block: Statement, known: Collection[str]) -> bool:
        """
        Leave out what only keeps a place: the LUN of a device that is not there.
        """
        name = _argument(block, "DEVICE")
        said = [one for one in block.body or () if one.keyword.text == "dummy"]
        if not name or "dummy" in known or not said or _text(said[0]) == "0":
            return False
        self._warn(
            block.words[1],
            "LUN 0 may be missing here: the dummy and its LUNs are left out",
        )
        self._gone.add(name)
        return True

    def _device(self, block: Statement, known: Collection[str]) -> Statement:
        if not _argument(block, "DEVICE") or block.body is None:
            return block
        words = {"dummy": "", **DEVICE}
        body = [_sized(one, known) for one in block.body]
        return attrs.evolve(block, body=tuple(self._attributes(words, known, body)))

    # Targets.

    def _other_driver(self, block: Statement) -> bool:
        name = _argument(block, "TARGET_DRIVER")
        if name not in DRIVERS or name in {one.name for one in target_drivers()}:
            return False
        self._warn(block.words[1], DRIVERS[name])
        return True

    def _other(self, block: Statement) -> Statement:
        if _argument(block, "DEVICE_GROUP"):
            return attrs.evolve(block, body=self._there(block.body, "DEVICE", 1))
        name = _argument(block, "TARGET_DRIVER")
        try:
            driver = find_target_driver(name)
        except ConfigurationError:
            return block
        if block.body is None:
            return block
        body = self._attributes(DRIVER, _names(driver_rows(driver)), block.body)
        known = _names(driver.target_attributes())
        groups = _names(group_rows(driver))
        return attrs.evolve(
            block,
            body=tuple(
                self._target(one, "TARGET", known, groups, TARGET) for one in body
            ),
        )

    def _target(
        self,
        block: Statement,
        keyword: str,
        known: Collection[str],
        groups: Collection[str],
        words: Mapping[str, str],
    ) -> Statement:
        """
        Return a target, or a group of initiators in one.
        """
        if not _argument(block, keyword) or block.body is None:
            return block
        body = self._there(block.body, "LUN", 2) or ()
        body = tuple(self._addresses(one) for one in body)
        return attrs.evolve(
            block,
            body=tuple(
                self._target(one, "GROUP", groups, (), TARGET)
                for one in self._attributes(words, known, body)
            ),
        )

    def _addresses(self, one: Statement) -> Statement:
        if one.keyword.text == "addr_method" and _text(one).upper() == "LUN":
            self._warn(one.words[1], "FLAT is used: both name every LUN")
            flat = attrs.evolve(one.words[1], text="FLAT")
            return attrs.evolve(one, words=(one.keyword, flat))
        return one

    def _there(
        self, body: tuple[Statement, ...] | None, keyword: str, at: int
    ) -> tuple[Statement, ...] | None:
        """
        Return the statements of a body but those about devices that are left out.
        """
        kept = []
        for one in body or ():
            if (
                one.keyword.text == keyword
                and len(one.words) > at
                and one.words[at].text in self._gone
            ):
                self._warn(one.words[at], "left out with its device")
            else:
                kept.append(one)
        return None if body is None else tuple(kept)


def _names(rows: Iterable[Attribute[Any]]) -> set[str]:
    return {row.name for row in rows}


def _text(statement: Statement) -> str:
    return " ".join(word.text for word in statement.words[1:])


def _argument(block: Statement, keyword: str) -> str:
    """
    Return what stands behind a block's keyword, or nothing if it is another block.
    """
    if block.keyword.text != keyword or len(block.words) < 2:
        return ""
    return block.words[1].text


def _sized(one: Statement, known: Collection[str]) -> Statement:
    """
    Return an attribute: SCST's size in MiB as a size.
    """
    if one.keyword.text != "size_mb" or "size" not in known or len(one.words) != 2:
        return one
    name, number = one.words
    size = attrs.evolve(number, text=f"{number.text}M")
    return attrs.evolve(one, words=(attrs.evolve(name, text="size"), size))


def accepted(
    words: Mapping[str, str], known: Iterable[str], given: Sequence[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[str]]:
    """
    Return the (name, text) pairs of a verb that are ours, and what is to be said of the
    others.
    """
    names = set(known)
    kept, warnings = [], []
    for name, text in given:
        if name == "size_mb" and "size" in names:
            kept.append(("size", f"{text}M"))
        elif name in names or name not in words:
            kept.append((name, text))
        else:
            warnings.append(f"{name} {text}: taken, and left out: {words[name]}")
    return kept, warnings
