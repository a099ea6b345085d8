# SPDX-License-Identifier: MIT
"""
Devices, from opening their stores to closing them: what becomes of them while
initiators use them.
"""
