# SPDX-License-Identifier: MIT
"""
What is configured, as values.

`device_attributes`     a row an attribute of a device: field, unit attention
`target_attributes`     of every target; `attribute_tables`: of the rest
`group_configuration`   of device groups (ALUA), and these as they are configured
`value_kinds`           kinds of value; `trace_level`, `portals`, `filters`: one each
`configuration`         devices, drivers, targets, LUNs as they are configured
`names`                 what may be a name
`registry`              live objects of one kind by name
`warnings`              what is to be said of a change though it is no mistake
"""
