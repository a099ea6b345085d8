# SPDX-License-Identifier: MIT
"""
RFC 7143 on the wire.

Everything here is sans-IO (bytes and ``now`` in, PDUs out) but `iscsi`, the only
module that touches a transport, a timer or the reactor.
"""
