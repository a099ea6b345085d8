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
    MANUAL_INTERVENTION_REQUIRED = 0x0403
    SELF_TEST_IN_PROGRESS = 0x0409
    LOGICAL_UNIT_COMMUNICATION_FAILURE = 0x0800
    LOGICAL_UNIT_COMMUNICATION_TIME_OUT = 0x0801
    WRITE_ERROR = 0x0C00
    UNEXPECTED_UNSOLICITED_DATA = 0x0C0C
    NOT_ENOUGH_UNSOLICITED_DATA = 0x0C0D
    UNRECOVERED_READ_ERROR = 0x1100
    PARAMETER_LIST_LENGTH_ERROR = 0x1A00
    MISCOMPARE_DURING_VERIFY_OPERATION = 0x1D00
    INVALID_COMMAND_OPERATION_CODE = 0x2000
    LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE = 0x2100
    INVALID_FIELD_IN_CDB = 0x2400
    LOGICAL_UNIT_NOT_SUPPORTED = 0x2500
    INVALID_FIELD_IN_PARAMETER_LIST = 0x2600
    WRITE_PROTECTED = 0x2700
    SPACE_ALLOCATION_FAILED_WRITE_PROTECT = 0x2707
    NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED = 0x2800
    POWER_ON_RESET_OR_BUS_DEVICE_RESET_OCCURRED = 0x2900
    POWER_ON_OCCURRED = 0x2901
    BUS_DEVICE_RESET_FUNCTION_OCCURRED = 0x2903
    I_T_NEXUS_LOSS_OCCURRED = 0x2907
    MODE_PARAMETERS_CHANGED = 0x2A01
    LOG_PARAMETERS_CHANGED = 0x2A02
    RESERVATIONS_PREEMPTED = 0x2A03
    RESERVATIONS_RELEASED = 0x2A04
    REGISTRATIONS_PREEMPTED = 0x2A05
    CAPACITY_DATA_HAS_CHANGED = 0x2A09
    TIMESTAMP_CHANGED = 0x2A10
    COMMAND_SEQUENCE_ERROR = 0x2C00
    COMMANDS_CLEARED_BY_ANOTHER_INITIATOR = 0x2F00
    INCOMPATIBLE_MEDIUM_INSTALLED = 0x3000
    CANNOT_READ_MEDIUM_INCOMPATIBLE_FORMAT = 0x3002
    SAVING_PARAMETERS_NOT_SUPPORTED = 0x3900
    MEDIUM_NOT_PRESENT = 0x3A00
    LOGICAL_UNIT_FAILED_SELF_TEST = 0x3E03
    INQUIRY_DATA_HAS_CHANGED = 0x3F03
    DEVICE_IDENTIFIER_CHANGED = 0x3F05
    REPORTED_LUNS_DATA_HAS_CHANGED = 0x3F0E
    INTERNAL_TARGET_FAILURE = 0x4400
    PROTOCOL_SERVICE_CRC_ERROR = 0x4705
    INVALID_MESSAGE_ERROR = 0x4900
    OVERLAPPED_COMMANDS_ATTEMPTED = 0x4E00
    MEDIA_LOAD_OR_EJECT_FAILED = 0x5300
    MEDIUM_REMOVAL_PREVENTED = 0x5302
    INSUFFICIENT_RESOURCES = 0x5503
    ILLEGAL_MODE_FOR_THIS_TRACK = 0x6400


@attrs.frozen
class Field:
    """
    A byte of the CDB or of the parameter list, for the field pointer
    (SPC-5 section 4.4.2.4.2, sense key specific data).
    """

    byte: int
    bit: int | None = None
    in_cdb: bool = True


class CheckCondition(Exception):  # noqa: N818 - the standard's name
    """
    Ends a command with CHECK CONDITION status and this sense data.

    *information* is the INFORMATION field: for MISCOMPARE the byte offset, for medium
    errors the LBA.  *specific* is the COMMAND-SPECIFIC INFORMATION field.  *progress*
    is how much of an operation is done, in 65536ths (SPC-5 section 4.4.2.4.4).
    """

    def __init__(
        self,
        key: SenseKey,
        asc: int,
        field: Field | None = None,
        information: int | None = None,
        specific: int | None = None,
        progress: int | None = None,
    ) -> None:
        super().__init__(f"{key.name} {asc:04x}h")
        self.key = key
        self.asc = asc
        self.field = field
        self.information = information
        self.specific = specific
        self.progress = progress


@attrs.frozen
class UnitAttention:
    """
    A unit attention condition: its additional sense code (SAM-5 section 5.14).
    """

    asc: ASC


class ReservationConflict(Exception):  # noqa: N818 - the standard's name
    """
    Ends a command with RESERVATION CONFLICT status.
    """


def illegal_field(byte: int, bit: int | None = None) -> CheckCondition:
    """
    Return INVALID FIELD IN CDB pointing at this byte (and bit).
    """
    return CheckCondition(
        SenseKey.ILLEGAL_REQUEST, ASC.INVALID_FIELD_IN_CDB, Field(byte, bit)
    )


def illegal_parameter(byte: int, bit: int | None = None) -> CheckCondition:
    """
    Return INVALID FIELD IN PARAMETER LIST pointing at this byte (and bit).
    """
    return CheckCondition(
        SenseKey.ILLEGAL_REQUEST,
        ASC.INVALID_FIELD_IN_PARAMETER_LIST,
        Field(byte, bit, in_cdb=False),
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
    errno.ENOMEM: (SenseKey.ABORTED_COMMAND, ASC.INSUFFICIENT_RESOURCES),
}


def from_oserror(error: OSError, *, writing: bool, lba: int) -> CheckCondition:
    """
    Return the sense data for a backstore's OSError; *lba* is where it happened.
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
        return struct.pack(">BBBBxxxB", 0x72, error.key, asc, ascq, len(body)) + body
    information = error.information
    valid = information is not None and information < 1 << 32
    return struct.pack(
        ">BxBIBIBBB3s",
        0x70 | (0x80 if valid else 0),
        error.key,
        information if valid and information is not None else 0,
        10,
        (error.specific or 0) & 0xFFFFFFFF,
        asc,
        ascq,
        0,
        key_specific or b"\0\0\0",
    )
