# SPDX-License-Identifier: MIT
"""
The data path without a network: microseconds of CPU for a command, from byte to byte.

``python bench/path.py`` feeds a logged-in connection batches of 32 commands, as one
chunk each, takes the answers out, and prints the best of several rounds for each kind.
"""

from __future__ import annotations

import struct
import time

from scstd.handlers.memory import MemoryStore
from scstd.handlers.nullio import NullStore
from scstd.interfaces import IBackstore
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Node, TargetSettings
from scstd.scsi.device import open_disk
from scstd.scsi.target import Target

BATCH = 32
ROUNDS = 15
BATCHES = 100

_LOGIN = b"\0".join(
    (
        b"InitiatorName=iqn.2026-11.org.scstd:path",
        b"TargetName=iqn.2026-11.org.scstd:path",
        b"SessionType=Normal",
        b"InitialR2T=No",
        b"ImmediateData=Yes",
        b"MaxRecvDataSegmentLength=262144",
        b"",
    )
)


def connection(store: IBackstore, limits: TargetSettings | None = None) -> Connection:
    """
    Return a connection that is logged in to a target with *store* at LUN 0.
    """
    node = Node()
    target = Target("iqn.2026-11.org.scstd:path")
    target.add_lun(0, open_disk("disk", store))
    node.add_target(target, limits or TargetSettings())
    made = Connection(node, lambda: None, 0.0)
    header = struct.pack(
        ">BBxxB3s6sHIHxxII16x",
        0x43,
        0x87,
        0,
        len(_LOGIN).to_bytes(3, "big"),
        b"\x80\0\0\0\0\1",
        0,
        1,
        0,
        1,
        1,
    )
    made.receive_data(header + _LOGIN + bytes(-len(_LOGIN) % 4), 0.0)
    # One command takes the unit attention.
    made.receive_data(command(0x00, 1, 0, 0), 0.0)
    made.output.clear()
    return made


def command(
    opcode: int, cmd_sn: int, lba: int, blocks: int, data: bytes = b""
) -> bytes:
    """
    Return a SCSI Command PDU: TEST UNIT READY, READ(10) or WRITE(10).
    """
    flags = {0x28: 0xC1, 0x2A: 0xA1}.get(opcode, 0x81)
    cdb = struct.pack(">BBIBHB6x", opcode, 0, lba, 0, blocks, 0)
    return (
        struct.pack(
            ">BBxxB3sQIIII16s",
            0x01,
            flags,
            0,
            len(data).to_bytes(3, "big"),
            0,
            cmd_sn & 0xFFFFFFFF,
            blocks * 512,
            cmd_sn & 0xFFFFFFFF,
            2,
            cdb,
        )
        + data
    )


def measure(store: IBackstore, opcode: int, blocks: int) -> float:
    """
    Return the microseconds that one command takes.
    """
    made = connection(store)
    data = bytes(blocks * 512) if opcode == 0x2A else b""
    cmd_sn = 2
    best = float("inf")
    for _round in range(ROUNDS):
        chunks = []
        for _batch in range(BATCHES):
            pieces = []
            for number in range(BATCH):
                pieces.append(command(opcode, cmd_sn, number * blocks, blocks, data))
                cmd_sn += 1
            chunks.append(b"".join(pieces))
        began = time.process_time()
        for chunk in chunks:
            made.receive_data(chunk, 0.0)
            while made.output:
                made.take_output()
                made.pump()
        took = time.process_time() - began
        best = min(best, took / BATCHES / BATCH)
    return best * 1e6


def main() -> None:
    """
    Print the table.
    """
    print("microseconds of CPU a command, batches of 32:")
    for name, opcode, blocks in (
        ("TEST UNIT READY", 0x00, 0),
        ("READ(10)  4 KiB", 0x28, 8),
        ("READ(10) 64 KiB", 0x28, 128),
        ("WRITE(10) 4 KiB", 0x2A, 8),
    ):
        null = measure(NullStore(1 << 40, 512), opcode, blocks)
        memory = measure(MemoryStore(64 << 20, 512), opcode, blocks)
        print(f"  {name}  nullio {null:6.2f}  memory {memory:6.2f}")


if __name__ == "__main__":
    main()
