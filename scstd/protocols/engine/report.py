# SPDX-License-Identifier: MIT
"""
What there is to say of a session: what was negotiated, where it stands, its counters.

The names of negotiated values are the keys' (RFC 7143 section 13), the others SCST's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scstd.protocols.engine.session import Session
from scstd.protocols.engine.task_management import name_of
from scstd.protocols.wire.parameters import Parameters

_NEGOTIATED: Mapping[str, str] = {
    "InitialR2T": "initial_r2t",
    "ImmediateData": "immediate_data",
    "MaxRecvDataSegmentLength": "max_recv_data_segment_length",
    "MaxXmitDataSegmentLength": "max_xmit_data_segment_length",
    "MaxBurstLength": "max_burst_length",
    "FirstBurstLength": "first_burst_length",
    "MaxOutstandingR2T": "max_outstanding_r2t",
    "HeaderDigest": "header_digest",
    "DataDigest": "data_digest",
    "DefaultTime2Wait": "default_time2wait",
    "DefaultTime2Retain": "default_time2retain",
    "ErrorRecoveryLevel": "error_recovery_level",
    "TaskReporting": "task_reporting",
}
"""Keys by name, and the field of `Parameters` that has the value."""


def _key(parameters: Parameters, field: str) -> Any:
    value = getattr(parameters, field)
    return ("No", "Yes")[value] if isinstance(value, bool) else value


def report(session: Session) -> dict[str, Any]:
    """
    Return names and values; those that begin with a capital were negotiated.
    """
    connection = session.connection
    window = connection.window
    writes = session.writes
    # Reads, of which there are most, are what is left: they need no count of their own.
    others = writes.commands + writes.two_way_commands + session.none_commands
    unaligned_reads, unaligned_writes, unaligned_two_way = session.nexus.unaligned
    return {
        "initiator_name": session.initiator,
        "sid": f"0x{session.isid.hex()}{session.tsih:04x}",
        "isid": f"0x{session.isid.hex()}",
        "tsih": session.tsih,
        "cid": connection.cid,
        "ip": connection.peer,
        "target_ip": connection.portal,
        "state": connection.state.name.lower(),
        "commands": session.commands,
        "active_commands": len(session.tasks),
        "read_cmd_count": session.commands - others,
        "write_cmd_count": writes.commands,
        "bidi_cmd_count": writes.two_way_commands,
        "none_cmd_count": session.none_commands,
        # An initiator always says in which direction data goes.
        "unknown_cmd_count": 0,
        "read_io_count_kb": session.read_bytes >> 10,
        "write_io_count_kb": writes.written >> 10,
        # What such commands move is with what is read and what is written.
        "bidi_io_count_kb": 0,
        "read_unaligned_cmd_count": unaligned_reads,
        "write_unaligned_cmd_count": unaligned_writes,
        "bidi_unaligned_cmd_count": unaligned_two_way,
        "exp_cmd_sn": window.exp_cmd_sn,
        "max_cmd_sn": window.max_cmd_sn,
        "stat_sn": connection.stat_sn,
        "task_management": "\n".join(
            f"{name_of(pdu)} LUN {pdu.lun >> 48 & 0x3FFF} tag {pdu.itt}"
            f" referenced tag {pdu.referenced_task_tag}"
            for _connection, pdu in session.managing.values()
        ),
        **{name: _key(connection.parameters, of) for name, of in _NEGOTIATED.items()},
    }
