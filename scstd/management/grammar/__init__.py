# SPDX-License-Identifier: MIT
"""
scst.conf as text: its words and blocks, and what SCST's own files have that ours
have not.
"""
