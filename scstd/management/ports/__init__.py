# SPDX-License-Identifier: MIT
"""
Target drivers with their targets, ports and portals; LUN maps and groups of
initiators; device groups and their access states.
"""
