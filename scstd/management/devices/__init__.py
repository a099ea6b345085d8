# SPDX-License-Identifier: MIT
"""
Devices, from opening their stores to closing them.

`opening`   other people's handlers and filters called, and held to their contract
`device`    one device: configuration, logical unit, memory
`devices`   all of them: opened, put in another's place, closed
`changes`   what is changed of one while initiators use it, and asked of it
"""
