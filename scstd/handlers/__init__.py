# SPDX-License-Identifier: MIT
"""
Device handlers, one a file: a handler opens a backstore.
"""
