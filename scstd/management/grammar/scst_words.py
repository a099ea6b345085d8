# SPDX-License-Identifier: MIT
"""
What SCST's scst.conf may have and we do not: a row a word, by the block in which it
stands.

A row says what takes the word's place here, and the values that mean the same as saying
nothing: SCST's own defaults (scst/src/scst_sysfs.c, scst_main.c and
dev_handlers/scst_vdisk.c, iscsi-scst/usr/param.c), or what is so here anyway.  With one
of these a word is left out without a warning.  The same tables serve files, `-open_dev`
and attributes that are set by hand (`scstd.management.grammar.scst_dialect`).
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from scstd.management.model.device_attributes import MAX_COMMANDS


@attrs.frozen
class Left:
    """
    A word of SCST's alone: *why* it is left out, and the values of which nothing needs
    to be said.
    """

    why: str
    unsaid: tuple[str, ...] = ()

    def says_nothing(self, text: str) -> bool:
        """
        Say whether a value means what is so anyway; no value at all is none set.
        """
        return not text or text.lower() in self.unsaid

    def warning(self) -> str:
        """
        Return what is said of it.
        """
        return f"taken, and left out: {self.why}"


_THREADS = "a store has the threads that it needs"
_CPU = "the processors of the process are what the service manager says (CPUAffinity)"
_FORWARD = Left("commands are not forwarded", ("0",))
_KERNEL = "it is about a kernel module"
SEEN = Left("it can only be read")
"""What SCST's tool writes though nobody can set it: by hand it is refused."""

_DIF = "there is no protection information"
_ORDER = Left("data is always in order", ("yes", "no"))
_MARKER = Left("there are no markers", ("no",))
_INTERVAL = Left("there are no markers", ("2048",))

DEVICE: Mapping[str, Left] = {
    "async": Left("reads and writes never wait for each other", ("0", "1")),
    "dif_filename": Left(_DIF),
    "dif_mode": Left(_DIF, ("none",)),
    "dif_static_app_tag": Left(_DIF, ("0", "0x0")),
    "dif_type": Left(_DIF, ("0",)),
    "nv_cache": Left(
        "caches are flushed when initiators ask; write_through reports WCE=0", ("0",)
    ),
    "numa_node_id": Left(_CPU, ("-1",)),
    "o_direct": Left(
        "the page cache is used; write_through makes each write durable", ("0",)
    ),
    "pr_file_name": Left("reservations are in the state directory"),
    "read_zero": Left("vdisk_nullio reads zeros always", ("0",)),
    "threads_num": Left(_THREADS, ("1", "8")),
    "threads_pool_type": Left(_THREADS, ("per_initiator",)),
    "zero_copy": Left("what is read is copied once, when it is read", ("0",)),
    **dict.fromkeys(("block", "dump_prs", "pr_state", "type", "usn_set"), SEEN),
}
"""Of devices; 8 threads are the default of vdisk_fileio, 1 of the others."""

TARGET: Mapping[str, Left] = {
    "cpu_mask": Left(_CPU),
    "DataPDUInOrder": _ORDER,
    "DataSequenceInOrder": _ORDER,
    "dif_capabilities": Left(_DIF),
    "dif_checks_failed": Left(_DIF),
    "forward_dst": _FORWARD,
    "forward_src": _FORWARD,
    "forwarding": _FORWARD,
    "HW_TARGET": Left("there are no targets in hardware"),
    "IFMarker": _MARKER,
    "IFMarkInt": _INTERVAL,
    "io_grouping_type": Left(_KERNEL, ("auto",)),
    "MaxXmitDataSegmentLength": Left("initiators say how much they take"),
    "OFMarker": _MARKER,
    "OFMarkInt": _INTERVAL,
    "per_sess_dedicated_tgt_threads": Left("there are no threads for sessions", ("0",)),
    "RDMAExtensions": Left("there is no iSER", ("no",)),
    "sg_tablesize": SEEN,
    "tid": SEEN,
}
"""Of targets of the driver iscsi, and of groups of initiators."""

DRIVER: Mapping[str, Left] = {
    "link_local": Left("portals are where `portal` says", ("1",)),
    "open_state": SEEN,
    "trace_level": Left("it is an attribute of the whole"),
    "version": SEEN,
}

ROOT: Mapping[str, Left] = {
    "async_lun_replace": Left("LUNs are replaced without waiting for commands", ("0",)),
    "auto_cm_assignment": Left("copies see the LUNs that their initiator sees", ("1",)),
    "cluster_name": Left("nodes do not know each other"),
    "force_global_sgv_pool": Left(_KERNEL, ("0",)),
    "max_tasklet_cmd": Left(_KERNEL, ("10",)),
    "poll_us": Left(_KERNEL, ("0",)),
    "suspend": Left("it is not kept in files", ("0",)),
    "threads": Left(_THREADS),
}

HANDLER: Mapping[str, Left] = {
    "trace_level": Left("it is an attribute of the whole"),
    "type": SEEN,
}

ZERO_IS_NONE = frozenset({"blocksize"})
"""Attributes of ours of which SCST takes 0 for nothing said."""

CUT = frozenset(
    (
        "DefaultTime2Retain",
        "DefaultTime2Wait",
        "ErrorRecoveryLevel",
        "FirstBurstLength",
        "MaxBurstLength",
        "MaxConnections",
        "MaxOutstandingR2T",
        "MaxRecvDataSegmentLength",
        "MaxSessions",
        "NopInInterval",
        "NopInTimeout",
        "QueuedCommands",
        "RspTimeout",
        MAX_COMMANDS.name,
    )
)
"""Attributes of ours that are cut to their limit, as SCST cuts them to its own."""

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
