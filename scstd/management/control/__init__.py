# SPDX-License-Identifier: MIT
"""
The control socket (doc/control.md): its commands, its server, its client.
"""
