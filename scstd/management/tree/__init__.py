# SPDX-License-Identifier: MIT
"""
The tree of objects and attributes, in SCST's sysfs layout.
"""
