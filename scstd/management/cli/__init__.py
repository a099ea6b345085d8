# SPDX-License-Identifier: MIT
"""
The command-line tools: scstadmin and iscsi-scst-adm, on the control socket.
"""
