# SPDX-License-Identifier: MIT
"""
A load of reads by a socket, for what libiscsi cannot ask for: segments of a chosen
length, and CRC32C of data.

    reading.py URL random|sequential BYTES DEPTH SECONDS MEGABYTES SEGMENT DIGESTS

prints what load.c prints.  The login is `scstd.initiator`'s; after that PDUs are only
cut, and no digest of theirs is checked, so that the target has more to do than the
load.  With SECONDS 0 as many commands are sent as may be under way, and no more.
"""

from __future__ import annotations

import random
import statistics
import sys
import time

from scstd.initiator.blocking import BlockingSession
from scstd.initiator.commands import read10

_CHUNK = 1 << 20
_DIGESTS = {
    "none": (("HeaderDigest", "None"), ("DataDigest", "None")),
    "crc32c": (("HeaderDigest", "CRC32C"), ("DataDigest", "None")),
    "both": (("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")),
}
_RESPONSE, _DATA_IN = 0x21, 0x25


class Reading:
    """
    A session that reads.
    """

    def __init__(
        self, url: str, order: str, size: int, megabytes: int, *keys: tuple[str, str]
    ) -> None:
        self.session = BlockingSession(url, 700, *keys)
        self.link, self.socket = self.session.link, self.session.socket
        for name, value in keys:
            if name.endswith("Digest") and self.link.keys.get(name) != value:
                sys.exit(f"the target does not agree to {name}={value}")
        capacity = self.session.command(b"\x25" + bytes(9), read=8)
        last, block = (int.from_bytes(capacity[at : at + 4], "big") for at in (0, 4))
        self.blocks, self.size = size // block, size
        self.pieces = min((last + 1) * block, megabytes << 20) // size
        self.random = random.Random(1) if order == "random" else None
        self.piece = 0
        self.began: dict[int, float] = {}
        self.took: list[float] = []
        self.buffer = memoryview(bytearray(_CHUNK))
        self.filled = self.skip = 0

    def ask(self) -> None:
        """
        Send one more command.
        """
        if self.random is not None:
            self.piece = self.random.randrange(self.pieces)
        lba = self.piece * self.blocks
        self.piece = (self.piece + 1) % self.pieces
        session = self.session.session
        pdu = session.command(
            read10(lba, self.blocks), read=self.size, lun=self.session.lun
        )
        self.began[pdu.itt] = time.monotonic()
        self.link.send(pdu)

    def take(self) -> int:
        """
        Take what has come; return how many commands have ended.
        """
        count = self.socket.recv_into(self.buffer[self.filled :])
        if not count:
            sys.exit("the target closed the connection")
        self.filled += count
        if self.skip:
            gone = min(self.skip, self.filled)
            self.skip -= gone
        else:
            gone = 0
        gone, ended = self._cut(gone)
        rest = self.filled - gone
        self.buffer[:rest] = self.buffer[gone : self.filled]
        self.filled = rest
        return ended

    def _cut(self, at: int) -> tuple[int, int]:
        """
        Cut PDUs from so many bytes on; return how far that went, and how many commands
        have ended.
        """
        buffer, filled, ended = self.buffer, self.filled, 0
        before = 52 if self.link.header_digest else 48
        after = 4 if self.link.data_digest else 0
        # A PDU is looked at when its header is whole: of its data nothing is wanted.
        while filled - at >= before:
            length = int.from_bytes(buffer[at + 5 : at + 8], "big")
            kind = buffer[at] & 0x3F
            if kind == _RESPONSE or (kind == _DATA_IN and buffer[at + 1] & 1):
                self._end(buffer[at : at + 48])
                ended += 1
            at += before + ((length + 3) & ~3) + (after if length else 0)
            if at > filled:
                self.skip = at - filled
                return filled, ended
        return at, ended

    def _end(self, header: memoryview) -> None:
        if header[3]:
            sys.exit(f"status {header[3]}: {header.hex()}")
        now = time.monotonic()
        self.took.append(now - self.began.pop(int.from_bytes(header[16:20], "big")))
        self.link.exp_stat_sn = int.from_bytes(header[24:28], "big") + 1

    def run(self, depth: int, seconds: float) -> float:
        """
        Have so many commands under way for so long; return how long it took.
        """
        began = time.monotonic()
        for _one in range(depth):
            self.ask()
        self.session.flush()
        while self.began:
            ended = self.take()
            if time.monotonic() - began < seconds:
                for _one in range(ended):
                    self.ask()
                self.session.flush()
        return time.monotonic() - began


def main() -> None:
    """
    Read, and print what came of it.
    """
    url, order, size, depth, seconds, megabytes, segment, digests = sys.argv[1:]
    keys = (("MaxRecvDataSegmentLength", segment), *_DIGESTS[digests])
    reading = Reading(url, order, int(size), int(megabytes), *keys)
    took = reading.run(int(depth), float(seconds))
    done = sorted(reading.took)
    median, late = statistics.median(done), done[len(done) * 99 // 100]
    print(f"{len(done)} {took:.6f} {median * 1e6:.1f} {late * 1e6:.1f} 1.000")
    reading.session.close()


if __name__ == "__main__":
    main()
