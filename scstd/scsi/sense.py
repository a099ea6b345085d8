# SPDX-License-Identifier: MIT
"""
Sense data: why a command failed, in the standard's codes (SPC-5 section 4.4).

`CheckCondition` is the one exception a command raises to end with CHECK CONDITION.
It carries what the sense data will say; `encode` turns it into bytes, in fixed or
descriptor format as the logical unit's control mode page asks (D_SENSE).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from enum import IntEnum

import attrs


class SenseKey(IntEnum):
    """
    Sense keys (SPC-5 table 49).
    """

    NO_SENSE = 0x0
    RECOVERED_ERROR = 0x1
    NOT_READY = 0x2
    MEDIUM_ERROR = 0x3
    HARDWARE_ERROR = 0x4
    ILLEGAL_REQUEST = 0x5
    UNIT_ATTENTION = 0x6
    DATA_PROTECT = 0x7
    BLANK_CHECK = 0x8
    COPY_ABORTED = 0xA
    ABORTED_COMMAND = 0xB
    VOLUME_OVERFLOW = 0xD
    MISCOMPARE = 0xE


class ASC(IntEnum):
    """
    Additional sense codes and qualifiers, ``ASC << 8 | ASCQ`` (SPC-5 annex F).
    """

    NO_ADDITIONAL_SENSE_INFORMATION = 0x0000
    OPERATION_IN_PROGRESS = 0x0016
    IN_PROCESS_OF_BECOMING_READY = 0x0401
    MANUAL_INTERVENTION_REQUIRED = 0x0403
    FORMAT_IN_PROGRESS = 0x0404
    SELF_TEST_IN_PROGRESS = 0x0409
    ASYMMETRIC_ACCESS_STATE_TRANSITION = 0x040A
    TARGET_PORT_IN_STANDBY_STATE = 0x040B
    TARGET_PORT_IN_UNAVAILABLE_STATE = 0x040C
    SANITIZE_IN_PROGRESS = 0x041B
    LOGICAL_UNIT_COMMUNICATION_FAILURE = 0x0800
    LOGICAL_UNIT_COMMUNICATION_TIME_OUT = 0x0801
    UNREACHABLE_COPY_TARGET = 0x0804
    WRITE_ERROR = 0x0C00
    UNEXPECTED_UNSOLICITED_DATA = 0x0C0C
    NOT_ENOUGH_UNSOLICITED_DATA = 0x0C0D
    THIRD_PARTY_DEVICE_FAILURE = 0x0D01
    COPY_TARGET_DEVICE_NOT_REACHABLE = 0x0D02
    INCORRECT_COPY_TARGET_DEVICE_TYPE = 0x0D03
    COPY_TARGET_DEVICE_DATA_UNDERRUN = 0x0D04
    INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT = 0x0E03
    UNRECOVERED_READ_ERROR = 0x1100
    FAILED_RETRANSMISSION_REQUEST = 0x1113
    PARAMETER_LIST_LENGTH_ERROR = 0x1A00
    MISCOMPARE_DURING_VERIFY_OPERATION = 0x1D00
    INVALID_COMMAND_OPERATION_CODE = 0x2000
    LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE = 0x2100
    INVALID_TOKEN_CAUSE_NOT_REPORTABLE = 0x2300
    INVALID_TOKEN_UNSUPPORTED_TYPE = 0x2301
    INVALID_TOKEN_UNKNOWN = 0x2304
    INVALID_TOKEN_CORRUPT = 0x2305
    INVALID_TOKEN_EXPIRED = 0x2307
    INVALID_TOKEN_CANCELLED = 0x2308
    INVALID_TOKEN_DELETED = 0x2309
    INVALID_TOKEN_LENGTH = 0x230A
    INVALID_FIELD_IN_CDB = 0x2400
    LOGICAL_UNIT_NOT_SUPPORTED = 0x2500
    INVALID_FIELD_IN_PARAMETER_LIST = 0x2600
    INVALID_RELEASE_OF_PERSISTENT_RESERVATION = 0x2604
    TOO_MANY_TARGET_DESCRIPTORS = 0x2606
    UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE = 0x2607
    TOO_MANY_SEGMENT_DESCRIPTORS = 0x2608
    UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE = 0x2609
    UNEXPECTED_INEXACT_SEGMENT = 0x260A
    INLINE_DATA_LENGTH_EXCEEDED = 0x260B
    WRITE_PROTECTED = 0x2700
    SPACE_ALLOCATION_FAILED_WRITE_PROTECT = 0x2707
    NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED = 0x2800
    POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED = 0x2900
    POWER_ON_OCCURRED = 0x2901
    SCSI_BUS_RESET_OCCURRED = 0x2902
    BUS_DEVICE_RESET_FUNCTION_OCCURRED = 0x2903
    DEVICE_INTERNAL_RESET = 0x2904
    I_T_NEXUS_LOSS_OCCURRED = 0x2907
    MODE_PARAMETERS_CHANGED = 0x2A01
    LOG_PARAMETERS_CHANGED = 0x2A02
    RESERVATIONS_PREEMPTED = 0x2A03
    RESERVATIONS_RELEASED = 0x2A04
    REGISTRATIONS_PREEMPTED = 0x2A05
    ASYMMETRIC_ACCESS_STATE_CHANGED = 0x2A06
    CAPACITY_DATA_HAS_CHANGED = 0x2A09
    TIMESTAMP_CHANGED = 0x2A10
    COMMAND_SEQUENCE_ERROR = 0x2C00
    ORWRITE_GENERATION_DOES_NOT_MATCH = 0x2C0C
    COMMANDS_CLEARED_BY_ANOTHER_INITIATOR = 0x2F00
    COMMANDS_CLEARED_BY_DEVICE_SERVER = 0x2F02
    INCOMPATIBLE_MEDIUM_INSTALLED = 0x3000
    CANNOT_READ_MEDIUM_INCOMPATIBLE_FORMAT = 0x3002
    MEDIUM_FORMAT_CORRUPTED = 0x3100
    FORMAT_COMMAND_FAILED = 0x3101
    SANITIZE_COMMAND_FAILED = 0x3103
    NO_DEFECT_SPARE_LOCATION_AVAILABLE = 0x3200
    THIN_PROVISIONING_SOFT_THRESHOLD_REACHED = 0x3807
    SAVING_PARAMETERS_NOT_SUPPORTED = 0x3900
    MEDIUM_NOT_PRESENT = 0x3A00
    LOGICAL_UNIT_FAILED_SELF_TEST = 0x3E03
    INQUIRY_DATA_HAS_CHANGED = 0x3F03
    DEVICE_IDENTIFIER_CHANGED = 0x3F05
    REPORTED_LUNS_DATA_HAS_CHANGED = 0x3F0E
    INTERNAL_TARGET_FAILURE = 0x4400
    PROTOCOL_SERVICE_CRC_ERROR = 0x4705
    SOME_COMMANDS_CLEARED_BY_ISCSI_PROTOCOL_EVENT = 0x477F
    INVALID_MESSAGE_ERROR = 0x4900
    OVERLAPPED_COMMANDS_ATTEMPTED = 0x4E00
    MEDIA_LOAD_OR_EJECT_FAILED = 0x5300
    MEDIUM_REMOVAL_PREVENTED = 0x5302
    INSUFFICIENT_RESOURCES = 0x5503
    INSUFFICIENT_REGISTRATION_RESOURCES = 0x5504
    INSUFFICIENT_RESOURCES_TO_CREATE_ROD_TOKEN = 0x550D
    ILLEGAL_MODE_FOR_THIS_TRACK = 0x6400
    SET_TARGET_PORT_GROUPS_COMMAND_FAILED = 0x670A


@attrs.frozen
class FieldPointer:
    """
    A byte of the CDB or of the parameter list, for the field pointer
    (SPC-5 section 4.4.2.4.2, sense key specific data).
    """

    byte: int
    bit: int | None = None
    in_cdb: bool = True


@attrs.frozen
class Forwarded:
    """
    Status and sense data that another logical unit gave to a copy manager: its
    *source* is 1 for a copy source, 2 for a copy destination (SPC-5 section 4.4.2.7).
    """

    source: int
    status: int
    sense: bytes


class CheckCondition(Exception):  # noqa: N818 - the standard's name
    """
    Ends a command with CHECK CONDITION status and this sense data.

    *information* is the INFORMATION field: for MISCOMPARE the byte offset, for medium
    errors the LBA.  *specific* is the COMMAND-SPECIFIC INFORMATION field.  *progress*
    is how much of an operation is done, in 65536ths (SPC-5 section 4.4.2.4.4).
    *forwarded* is what a copy source or destination said.
    """

    def __init__(
        self,
        key: SenseKey,
        asc: int,
        field: FieldPointer | None = None,
        information: int | None = None,
        specific: int | None = None,
        progress: int | None = None,
        forwarded: Forwarded | None = None,
    ) -> None:
        super().__init__(f"{key.name} {asc:04x}h")
        self.key = key
        self.asc = asc
        self.field = field
        self.information = information
        self.specific = specific
        self.progress = progress
        self.forwarded = forwarded


_PRECEDENCE = {
    ASC.POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED: 0,
    ASC.POWER_ON_OCCURRED: 0,
    ASC.DEVICE_INTERNAL_RESET: 0,
    ASC.SCSI_BUS_RESET_OCCURRED: 1,
    ASC.BUS_DEVICE_RESET_FUNCTION_OCCURRED: 2,
    ASC.I_T_NEXUS_LOSS_OCCURRED: 3,
}
"""Which is reported first (SAM-5 section 5.14): power on, hard reset, logical unit
reset, nexus loss; all else comes after these."""


EVENTS = frozenset((ASC.CAPACITY_DATA_HAS_CHANGED, ASC.INQUIRY_DATA_HAS_CHANGED))
"""
Unit attentions of one logical unit that initiators want to know of at once; SCST's
choice.  (That LUNs came or went is the third: an event of the whole nexus.)
"""


@attrs.frozen
class UnitAttention:
    """
    A unit attention condition: its additional sense code (SAM-5 section 5.14).
    """

    asc: ASC

    @property
    def precedence(self) -> int:
        """How late it is reported; among equals the older one is first."""
        return _PRECEDENCE.get(self.asc, len(_PRECEDENCE))


def asynchronous_event(pending: Sequence[UnitAttention]) -> bytes:
    """
    Return the Additional Response Information argument of QUERY ASYNCHRONOUS EVENT
    (SAM-5): whether there is one unit attention or more (UADE DEPTH), and what the
    first of them will say; zeros if there is none.
    """
    if not pending:
        return bytes(3)
    depth = 1 if len(pending) == 1 else 2
    return struct.pack(">BH", depth << 4 | SenseKey.UNIT_ATTENTION, pending[0].asc)


class Refused(Exception):  # noqa: N818 - as CheckCondition
    """
    Ends a command with a status that has no sense data (SAM-5 section 5.3.1).
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status:02x}h")
        self.status = status


class ReservationConflict(Refused):
    """
    Ends a command with RESERVATION CONFLICT status.
    """

    def __init__(self) -> None:
        super().__init__(0x18)


def illegal_field(byte: int, bit: int | None = None) -> CheckCondition:
    """
    Return INVALID FIELD IN CDB pointing at this byte (and bit).
    """
    return CheckCondition(
        SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_CDB, FieldPointer(byte, bit)
    )


def illegal_parameter(byte: int, bit: int | None = None) -> CheckCondition:
    """
    Return INVALID FIELD IN PARAMETER LIST pointing at this byte (and bit).
    """
    return CheckCondition(
        SenseKey.ILLEGAL_REQUEST,
        ASC.INVALID_FIELD_IN_PARAMETER_LIST,
        FieldPointer(byte, bit, in_cdb=False),
    )


def list_length_error() -> CheckCondition:
    """
    Return PARAMETER LIST LENGTH ERROR.
    """
    return CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.PARAMETER_LIST_LENGTH_ERROR)


# What an OSError of a backstore means to the initiator; else it is a medium error.
_ERRNO: dict[int, tuple[SenseKey, ASC]] = {
    errno.ENOSPC: (SenseKey.DATA_PROTECT, ASC.SPACE_ALLOCATION_FAILED_WRITE_PROTECT),
    errno.EDQUOT: (SenseKey.DATA_PROTECT, ASC.SPACE_ALLOCATION_FAILED_WRITE_PROTECT),
    # The file may not be so large: a limit of the process, or of the file system.
    errno.EFBIG: (SenseKey.DATA_PROTECT, ASC.SPACE_ALLOCATION_FAILED_WRITE_PROTECT),
    errno.EROFS: (SenseKey.DATA_PROTECT, ASC.WRITE_PROTECTED),
    errno.EPERM: (SenseKey.DATA_PROTECT, ASC.WRITE_PROTECTED),
    errno.EACCES: (SenseKey.DATA_PROTECT, ASC.WRITE_PROTECTED),
    errno.ENOMEDIUM: (SenseKey.NOT_READY, ASC.MEDIUM_NOT_PRESENT),
    # The store is gone, and stays so until somebody does something about it.
    errno.ESTALE: (SenseKey.NOT_READY, ASC.MANUAL_INTERVENTION_REQUIRED),
    errno.ENODEV: (SenseKey.NOT_READY, ASC.MANUAL_INTERVENTION_REQUIRED),
    errno.ENXIO: (SenseKey.NOT_READY, ASC.MANUAL_INTERVENTION_REQUIRED),
    # It may answer next time: initiators repeat aborted commands.
    errno.ETIMEDOUT: (
        SenseKey.ABORTED_COMMAND,
        ASC.LOGICAL_UNIT_COMMUNICATION_TIME_OUT,
    ),
    errno.ECONNRESET: (
        SenseKey.ABORTED_COMMAND,
        ASC.LOGICAL_UNIT_COMMUNICATION_FAILURE,
    ),
    errno.EPIPE: (SenseKey.ABORTED_COMMAND, ASC.LOGICAL_UNIT_COMMUNICATION_FAILURE),
    errno.ECONNREFUSED: (
        SenseKey.ABORTED_COMMAND,
        ASC.LOGICAL_UNIT_COMMUNICATION_FAILURE,
    ),
    errno.ECONNABORTED: (
        SenseKey.ABORTED_COMMAND,
        ASC.LOGICAL_UNIT_COMMUNICATION_FAILURE,
    ),
    errno.EHOSTUNREACH: (
        SenseKey.ABORTED_COMMAND,
        ASC.LOGICAL_UNIT_COMMUNICATION_FAILURE,
    ),
    errno.ENOMEM: (SenseKey.ABORTED_COMMAND, ASC.INSUFFICIENT_RESOURCES),
    # Where BUSY cannot be said (`scstd.scsi.sense_mapping`).
    errno.EAGAIN: (SenseKey.HARDWARE_ERROR, ASC.INSUFFICIENT_RESOURCES),
}


def from_oserror(error: OSError, *, writing: bool, lba: int | None) -> CheckCondition:
    """
    Return the sense data for a backstore's OSError; *lba* is where it happened, if that
    is known.
    """
    default = (
        SenseKey.MEDIUM_ERROR,
        ASC.WRITE_ERROR if writing else ASC.UNRECOVERED_READ_ERROR,
    )
    key, asc = _ERRNO.get(error.errno or 0, default)
    return CheckCondition(
        key, asc, information=lba if key is SenseKey.MEDIUM_ERROR else None
    )


def _key_specific(error: CheckCondition) -> bytes:
    """
    Return the three sense key specific bytes (SPC-5 section 4.4.2.4), or none.
    """
    if error.field is not None:
        field = error.field
        first = 0x80 | (0x40 if field.in_cdb else 0)
        if field.bit is not None:
            first |= 0x08 | field.bit
        return struct.pack(">BH", first, field.byte)
    if error.progress is not None:
        return struct.pack(">BH", 0x80, min(error.progress, 0xFFFF))
    return b""


def _forwarded_descriptor(one: Forwarded) -> bytes:
    """
    Return a forwarded sense data descriptor (SPC-5 section 4.4.2.7).
    """
    sense = one.sense[:244]
    truncated = 0x80 if len(sense) < len(one.sense) else 0
    head = (0x0C, len(sense) + 2, truncated | one.source, one.status)
    return bytes(head) + sense


def encode(error: CheckCondition, *, descriptor: bool = False) -> bytes:
    """
    Return sense data: fixed format (18 bytes) or descriptor format (8 and more).

    An INFORMATION value that needs more than 32 bits is left out (VALID=0) in fixed
    format, as SPC-5 section 4.4.3 says.
    """
    asc, ascq = error.asc >> 8, error.asc & 0xFF
    key_specific = _key_specific(error)
    if descriptor:
        body = b""
        if error.information is not None:
            body += struct.pack(">BBBxQ", 0x00, 0x0A, 0x80, error.information)
        if error.specific is not None:
            body += struct.pack(">BBxxQ", 0x01, 0x0A, error.specific)
        if key_specific:
            body += b"\x02\x06\0\0" + key_specific + b"\0"
        if error.forwarded is not None:
            body += _forwarded_descriptor(error.forwarded)
        return struct.pack(">BBBBxxxB", 0x72, error.key, asc, ascq, len(body)) + body
    information = error.information
    valid = information is not None and information < 1 << 32
    specific, appended = error.specific or 0, b""
    if error.forwarded is not None:
        # Byte 8 says where the copy source's status and sense data begin, byte 9 where
        # the copy destination's do (SPC-5 section 5.17.7.4).
        one = error.forwarded
        appended = bytes((one.status,)) + one.sense
        specific |= 18 << (24 if one.source == 1 else 16)
    fixed = struct.pack(
        ">BxBIBIBBB3s",
        0x70 | (0x80 if valid else 0),
        error.key,
        information if valid and information is not None else 0,
        10 + len(appended),
        specific & 0xFFFFFFFF,
        asc,
        ascq,
        0,
        key_specific or b"\0\0\0",
    )
    return fixed + appended
