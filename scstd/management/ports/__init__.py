# SPDX-License-Identifier: MIT
"""
How initiators reach devices: target drivers, LUN maps, device groups.

`drivers`         target drivers, their targets and where they listen
`ports`           relative target port identifiers
`lun_maps`        LUNs, groups of initiators, and telling of changes
`device_groups`   device groups, and `alua_groups`: access states of one
`transition`      the program that may refuse a change of state
`activation`      devices opened and closed while they stay LUNs (`active`, filters)
"""
