# SPDX-License-Identifier: MIT
"""
An iSCSI initiator: sessions, sans-IO and over sockets (RFC 7143).

It knows what is on the wire (`scstd.protocols.wire`), and nothing of the target.
"""
