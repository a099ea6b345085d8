# SPDX-License-Identifier: MIT
"""
The target's side of iSCSI, sans-IO: connections, sessions, transfers, the node.

Bytes and the time go in, PDUs come out; nothing here touches a transport or a timer.
"""
