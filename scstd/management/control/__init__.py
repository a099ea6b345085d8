# SPDX-License-Identifier: MIT
"""
The control socket, both ends.

`commands`     what can be asked, declared for both ends
`control`      the service's end; `amp_server`: AMP, taking nothing on trust
`client`       the tools' end
"""
