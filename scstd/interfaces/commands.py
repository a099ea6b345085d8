# SPDX-License-Identifier: MIT
"""
Devices that take whole SCSI commands: what a device handler opens where bytes at
offsets (`IBackstore`) are not enough.

A real device that is passed through, a tape, a changer, a program that is a device
server itself.  Of disks in files, in objects or over a network, `IBackstore` is the
better half: scstd has the commands then, and they are right.
"""

from __future__ import annotations

import attrs
from zope.interface import Attribute, Interface

from scstd.interfaces.asking import Asker
from scstd.interfaces.values import Buffer, Result


@attrs.frozen
class CommandAnswer:
    """
    How a command ended at a device.
    """

    status: int = 0
    """SAM-5 section 5.3.1: 00h GOOD, 02h CHECK CONDITION, 04h CONDITION MET, 08h BUSY,
    18h RESERVATION CONFLICT, 28h TASK SET FULL, 30h ACA ACTIVE, 40h TASK ABORTED."""
    sense: Buffer = b""
    """Sense data (SPC-5 section 4.4), in fixed or descriptor format: with CHECK
    CONDITION, and with no other status."""
    data_in: Buffer = b""
    """Data-In: no more than was expected.  There may be some with CHECK CONDITION: of a
    tape that has read a block of another length (SSC-4, READ(6))."""
    residual: int = 0
    """How many bytes of Data-Out the device did not take; or, less than 0, how many
    more than expected the command would have moved, in or out."""


class ICommandDevice(Interface):
    """
    An open device that carries out SCSI commands.

    scstd does for it what is the target's: sessions, LUNs, the order of tasks and task
    management, the unit attentions of each nexus (LUNs that changed, resets), REPORT
    LUNS, and reservations (RESERVE, RELEASE, PERSISTENT RESERVE IN and OUT), for the
    device knows one initiator only.  Everything else is the device's, INQUIRY too.

    Commands may overlap: the next may come before the Deferred of an earlier one has
    fired; those that must not, by their task attributes, do not come.  After `close` is
    called no other call follows.

    It may provide `ISessions` and `IVolatile`.
    """

    device_type: int = Attribute(
        "Peripheral device type, as its INQUIRY data has it (SPC-5 table 145): 0 to 31."
    )

    def execute(
        cdb: bytes, data_out: Buffer, data_in_length: int, asker: Asker
    ) -> Result[CommandAnswer]:
        """
        Carry out a command.

        *cdb* is as it came: 16 bytes, of shorter ones the rest is zeros, of longer ones
        there are more.  *data_out* is all of the Data-Out that the initiator said it
        would send, unchanged until the result is there; *data_in_length* is how much
        Data-In it expects at most; neither is more than 32 MiB.  *asker* is whose it
        is, and stands for it with `abort`: each command has its own.

        What it raises becomes sense data as with stores; but who is a device server
        answers by itself.
        """

    def abort(asker: Asker) -> None:
        """
        Have the command that came with *asker* end soon: it was aborted.

        Its result is waited for all the same, and dropped: until then it may change
        data.  Nothing else is asked for, and doing nothing is right if it ends anyway.
        """

    def reset() -> Result[None]:
        """
        Perform a logical unit reset (SAM-5 section 6.3.3).  All commands are aborted
        before, and may not have ended; they have when it is done.
        """

    def close() -> Result[None]:
        """
        Let go of what the device holds.
        """
