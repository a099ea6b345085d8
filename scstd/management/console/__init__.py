# SPDX-License-Identifier: MIT
"""
The SSH console and SFTP.

`console`     the SSH server; `terminal`: lines and keys
`commands`    what can be typed; `tables` and `summaries`: what is shown
`sftp`        the tree as files; `sftp_packets`: its packets, taking nothing on trust
"""
