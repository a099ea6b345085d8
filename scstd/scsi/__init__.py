# SPDX-License-Identifier: MIT
"""
The device server: SAM-5, SPC-5, SBC-4.  Knows nothing of iSCSI, sockets or files.
"""
