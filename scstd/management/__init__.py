# SPDX-License-Identifier: MIT
"""
One tree of objects and attributes, and its faces: scst.conf, the control socket,
the SSH console and SFTP.
"""
