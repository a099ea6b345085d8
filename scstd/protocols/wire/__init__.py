# SPDX-License-Identifier: MIT
"""
RFC 7143 as bytes and text: PDUs, framing, serial numbers, keys, the login's machine.

Nothing here knows of connections, sessions or SCSI.
"""
