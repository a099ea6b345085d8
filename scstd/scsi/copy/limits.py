# SPDX-License-Identifier: MIT
"""
The limits of the copy manager: what VPD page 8Fh and RECEIVE COPY OPERATING PARAMETERS
report, and what the commands then hold initiators to.
"""

from __future__ import annotations

MOST_CSCDS = 16
"""CSCD descriptors of one EXTENDED COPY."""

MOST_SEGMENTS = 256
"""Segment descriptors of one EXTENDED COPY."""

CSCD_LENGTH = 32
SEGMENT_LENGTH = 28
OFFSET_SEGMENT_LENGTH = 32

MOST_LIST = CSCD_LENGTH * MOST_CSCDS + OFFSET_SEGMENT_LENGTH * MOST_SEGMENTS
"""Bytes of all descriptors of one EXTENDED COPY."""

MOST_SEGMENT_BYTES = 256 << 20
"""
Bytes that one segment moves at most.  Of block to block there is nothing to check:
65535 blocks, the most that such a descriptor can name, are fewer.
"""

GRANULARITY = 9
"""Binary logarithm of the least that a segment moves: a block of 512 bytes."""

DESCRIPTOR_TYPES = (0x02, 0x0A, 0xE4)
"""
Segment descriptors block to block, without and with offset, and identification
descriptor CSCD descriptor.
"""

MOST_COPIES = 64
"""Copy operations at work at one time."""

MOST_RESULTS = 64
"""Copy operations that one I_T nexus can ask about at one logical unit."""

MOST_RANGES = 256
"""Block device range descriptors of a POPULATE TOKEN or WRITE USING TOKEN."""

MOST_TOKEN_BYTES = 256 << 20
"""Bytes of one token, and that one WRITE USING TOKEN moves."""

OPTIMAL_TOKEN_BYTES = 64 << 20
"""Bytes that are moved well within the four seconds that Windows waits."""

DEFAULT_INACTIVITY = 30
"""Seconds a token lives unused when nothing else is asked for."""

MOST_INACTIVITY = 600
"""Seconds a token may be asked to live unused."""

MOST_LIFETIME = 24 * 3600
"""Seconds a token may live, however often it is used."""

MOST_TOKENS = 4096
"""Tokens that are known at one time, dead ones included."""

MOST_OF_INITIATOR = 256
"""Those of one initiator: a further one takes the place of its oldest."""
