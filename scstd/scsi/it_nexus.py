# SPDX-License-Identifier: MIT
"""
The names of an I_T nexus (SAM-5, I_T nexus): what is remembered of one without it.
"""

from __future__ import annotations

IT = tuple[str, str]
"""
An I_T nexus by its names, which outlive its sessions: those of the initiator port (or
of the initiator, where ISIDs do not count), in lower case, and of the target (each has
one target port).
"""
