# SPDX-License-Identifier: MIT
"""
The SSH server: a Python prompt in the running process, and the tree over SFTP.
"""
