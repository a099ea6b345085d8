# SPDX-License-Identifier: MIT
"""
What stands in the fields of PDUs: tags, flag bits, reasons and responses (RFC 7143
section 11).
"""

from __future__ import annotations

from enum import IntEnum

RESERVED_TAG = 0xFFFFFFFF
"""The reserved Initiator or Target Transfer Tag."""

IMMEDIATE = 0x40
"""The I bit of byte 0: delivered immediately, CmdSN not advanced."""
OPCODE = 0x3F
"""The opcode in byte 0."""
FINAL = 0x80
"""The F bit of byte 1 (T in Login PDUs)."""
TRANSIT = 0x80
CONTINUE = 0x40
"""The C bit of byte 1 in Login and Text PDUs."""
READ = 0x40
WRITE = 0x20
"""The R and W bits of a SCSI Command (RFC 7143 section 11.3.1)."""
ACKNOWLEDGE = 0x40
"""The A bit of a SCSI Data-In."""
OVERFLOW = 0x04
UNDERFLOW = 0x02
"""The O and U bits of a SCSI Response and of Data-In with status."""
STATUS = 0x01
"""The S bit of a SCSI Data-In: it carries the status."""
BIDI_OVERFLOW = 0x10
BIDI_UNDERFLOW = 0x08


class RejectReason(IntEnum):
    """
    Why a PDU is rejected (RFC 7143 section 11.17.1).
    """

    DATA_DIGEST_ERROR = 0x02
    SNACK_REJECT = 0x03
    PROTOCOL_ERROR = 0x04
    COMMAND_NOT_SUPPORTED = 0x05
    TOO_MANY_IMMEDIATE_COMMANDS = 0x06
    TASK_IN_PROGRESS = 0x07
    INVALID_DATA_ACK = 0x08
    INVALID_PDU_FIELD = 0x09
    OUT_OF_TARGET_TRANSFER_TAGS = 0x0A
    WAITING_FOR_LOGOUT = 0x0C


class TaskManagementResponseCode(IntEnum):
    """
    Answers to a task management function (RFC 7143 section 11.6.1).
    """

    FUNCTION_COMPLETE = 0
    TASK_DOES_NOT_EXIST = 1
    LUN_DOES_NOT_EXIST = 2
    TASK_STILL_ALLEGIANT = 3
    TASK_ALLEGIANCE_REASSIGNMENT_NOT_SUPPORTED = 4
    FUNCTION_NOT_SUPPORTED = 5
    FUNCTION_AUTHORIZATION_FAILED = 6
    FUNCTION_SUCCEEDED = 7
    """RFC 7144: the answer yes to a query."""
    FUNCTION_REJECTED = 255


class AsyncEvent(IntEnum):
    """
    What an Asynchronous Message tells (RFC 7143 section 11.9.1).
    """

    SCSI = 0
    LOGOUT_REQUEST = 1
    CONNECTION_DROP = 2
    SESSION_DROP = 3
    NEGOTIATION_REQUEST = 4
    TASK_TERMINATION = 5


class LogoutReason(IntEnum):
    """
    Why an initiator logs out (RFC 7143 section 11.14.1).
    """

    CLOSE_SESSION = 0
    CLOSE_CONNECTION = 1
    REMOVE_FOR_RECOVERY = 2


class LogoutResponseCode(IntEnum):
    """
    Answers to a Logout Request (RFC 7143 section 11.15.1).
    """

    CLOSED = 0
    CID_NOT_FOUND = 1
    RECOVERY_NOT_SUPPORTED = 2
    CLEANUP_FAILED = 3


class SNACKType(IntEnum):
    """
    What a SNACK asks for (RFC 7143 section 11.16.1).
    """

    DATA = 0
    """Data-In, or the R2Ts of a write."""
    STATUS = 1
    DATA_ACK = 2
    R_DATA = 3


class TaskManagementCode(IntEnum):
    """
    What a Task Management Function Request asks for (RFC 7143 section 11.5.1, RFC
    7144).
    """

    ABORT_TASK = 1
    ABORT_TASK_SET = 2
    CLEAR_ACA = 3
    CLEAR_TASK_SET = 4
    LOGICAL_UNIT_RESET = 5
    TARGET_WARM_RESET = 6
    TARGET_COLD_RESET = 7
    TASK_REASSIGN = 8
    QUERY_TASK = 9
    QUERY_TASK_SET = 10
    I_T_NEXUS_RESET = 11
    QUERY_ASYNCHRONOUS_EVENT = 12
