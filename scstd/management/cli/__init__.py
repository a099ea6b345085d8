# SPDX-License-Identifier: MIT
"""
The command-line tools: programs of their own, that know the service by its socket.

`scstadmin`             the tool; `scstadmin_commands`: what it does, `lists`: lists
`adm`                   iscsi-scst-adm
`events`                following events
`tools`, `usage`        what they share
"""
