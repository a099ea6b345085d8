# SPDX-License-Identifier: MIT
"""
Configurations that hypothesis makes up, and what of them is compared.
"""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from scstd.attributes import parse_values
from scstd.management.model.attribute_tables import ROOT_ATTRIBUTES, driver_rows
from scstd.management.model.configuration import (
    Configuration,
    DeviceConfiguration,
    DriverConfiguration,
    GroupConfiguration,
    LunConfiguration,
    TargetConfiguration,
    device,
)
from scstd.management.model.target_attributes import target_rows
from scstd.management.model.trace_level import ALL
from scstd.plugin import find_target_driver

TEXT = st.text('ab "\\{}#;=', max_size=6)
"""Values that need quotes, and some that do not."""

NAMES = st.sampled_from(["d0", "d1", "d2", "d3"])

GROUP_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "addr_method": st.sampled_from(["PERIPHERAL", "FLAT"]),
        "black_hole": st.integers(0, 4),
    },
)
"""What a group of initiators may have of its own, the core's and the driver's."""


ACCOUNTS: st.SearchStrategy[list[tuple[str, str]]] = st.one_of(
    st.just([]),
    st.permutations(["first-secret-0", "second-secret-0", "third-secret-0"]).map(
        lambda secrets: [
            ("IncomingUser", f"joe {secrets[0]}"),
            ("OutgoingUser", f"us {secrets[1]}"),
        ]
    ),
)
"""Accounts whose secrets change places from one configuration to another."""


@st.composite
def devices(
    draw: st.DrawFn, name: str, usn: str, state_key: str
) -> DeviceConfiguration:
    """
    Return some device; *usn* and *state_key* are what it alone may have.
    """
    handler = draw(st.sampled_from(["vdisk_nullio", "memory"]))
    given = [("size", draw(st.sampled_from(["1M", "2M"])))]
    if state_key != name:
        given.append(("state_key", state_key))
    for attribute, values in (
        ("blocksize", ["512", "4096"]),
        ("rotational", ["0", "1"]),
        ("tst", ["0", "1"]),
        ("prod_id", ["", "a b", 'x"y\\']),
        ("usn", [usn]),
        ("filter", ["delay read=0", 'error "on=write"']),
    ):
        if draw(st.booleans()):
            given.append((attribute, draw(st.sampled_from(values))))
    return device(name, handler, given)


@st.composite
def lun_maps(draw: st.DrawFn, names: list[str]) -> tuple[LunConfiguration, ...]:
    """
    Return some LUN map of these devices.
    """
    if not names:
        return ()
    luns = draw(st.lists(st.sampled_from([0, 1, 2, 300]), unique=True, max_size=3))
    return tuple(
        LunConfiguration(lun, draw(st.sampled_from(names)), draw(st.booleans()))
        for lun in sorted(luns)
    )


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """
    Return some configuration of up to four devices, two targets, three groups.
    """
    names = draw(st.lists(NAMES, unique=True))
    usns = draw(st.permutations(["1a", "#2 {b", "c", "d"]))
    state_keys = draw(st.permutations(["k0", "d0", "d1", "d2", "d3"]))
    iscsi = find_target_driver("iscsi")
    targets = []
    for name in draw(st.lists(st.sampled_from("xy"), unique=True)):
        given = [("enabled", draw(st.sampled_from("01")))]
        if draw(st.booleans()):
            given.append(("alias", draw(TEXT)))
        if draw(st.booleans()):
            given.append(("QueuedCommands", draw(st.sampled_from(["8", "32", "64"]))))
        given += draw(ACCOUNTS)
        groups = [
            GroupConfiguration(
                group,
                tuple(
                    draw(st.lists(st.sampled_from(["*:i1", "!*:i1", "*"]), unique=True))
                ),
                draw(lun_maps(names)),
                draw(GROUP_VALUES),
            )
            for group in draw(st.lists(st.sampled_from("ghi"), unique=True))
        ]
        targets.append(
            TargetConfiguration(
                f"iqn.2026-11.org.scstd:{name}",
                parse_values(target_rows(iscsi), given),
                draw(lun_maps(names)),
                tuple(groups),
            )
        )
    values = parse_values(
        driver_rows(iscsi),
        [
            ("enabled", draw(st.sampled_from("01"))),
            ("LoginTimeout", draw(st.sampled_from(["30", "5.5"]))),
            *draw(ACCOUNTS),
        ],
    )
    return Configuration(
        tuple(
            draw(devices(*one)) for one in zip(names, usns, state_keys, strict=False)
        ),
        (DriverConfiguration("iscsi", values, tuple(targets)),),
        (),
        {
            **parse_values(ROOT_ATTRIBUTES, ()),
            "setup_id": draw(st.integers(0, 2**32 - 1)),
            "trace_level": draw(st.integers(0, ALL)) & ALL,
        },
    )


def essence(configuration: Configuration) -> dict[str, Any]:
    """
    Return what makes a configuration that one, whatever the order it is written in; of
    groups the order counts.
    """
    return {
        "values": dict(configuration.values),
        "device_groups": [
            (one.name, dict(one.values), set(one.devices), len(one.groups))
            for one in configuration.device_groups
        ],
        "devices": {
            one.name: (one.handler.name, dict(one.values), one.state_key)
            for one in configuration.devices
        },
        "drivers": {
            driver.name: (
                dict(driver.values),
                {
                    target.name: (
                        dict(target.values),
                        frozenset(target.luns),
                        [
                            (
                                one.name,
                                frozenset(one.patterns),
                                frozenset(one.luns),
                                dict(one.values),
                            )
                            for one in target.groups
                        ],
                    )
                    for target in driver.targets
                },
            )
            for driver in configuration.drivers
        },
    }


def without(configuration: Configuration, name: str) -> Configuration:
    """
    Return a configuration without a device and its LUNs.
    """

    def kept(one: Any) -> Any:
        luns = tuple(lun for lun in one.luns if lun.device != name)
        groups = (
            {}
            if not hasattr(one, "groups")
            else {"groups": tuple(map(kept, one.groups))}
        )
        return attrs.evolve(one, luns=luns, **groups)

    return attrs.evolve(
        configuration,
        devices=tuple(one for one in configuration.devices if one.name != name),
        drivers=tuple(
            attrs.evolve(one, targets=tuple(map(kept, one.targets)))
            for one in configuration.drivers
        ),
    )
