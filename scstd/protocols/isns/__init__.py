# SPDX-License-Identifier: MIT
"""
The iSNS client (RFC 4171): the server learns of our portals and targets, and we learn
from it which initiators may see them.
"""
