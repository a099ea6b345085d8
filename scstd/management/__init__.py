# SPDX-License-Identifier: MIT
"""
One tree of objects and attributes, and its faces: scst.conf and the SSH console.
"""
