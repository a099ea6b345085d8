# SPDX-License-Identifier: MIT
"""
URLs of logical units, as libiscsi and QEMU write them:
``iscsi://[user[%password]@]host[:port]/target/lun``.
"""

from __future__ import annotations

import re

import attrs

from scstd.initiator.login import LoginOptions

PORT = 3260
"""The port that IANA has given to iSCSI (RFC 7143 section 4.2.7.1)."""

_URL = re.compile(
    r"iscsi(?P<tls>\+tls)?://"
    r"(?:(?P<user>[^@/%]+)(?:%(?P<password>[^@/]+))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:/@\[\]]+)(?::(?P<port>\d+))?"
    r"/(?P<target>[^/]+)/(?P<lun>\d+)"
)


@attrs.frozen
class TargetURL:
    """
    Where a logical unit is.
    """

    host: str
    """A name or an address, IPv6 without brackets."""
    port: int
    target: str
    """The target's iSCSI name."""
    lun: int
    tls: bool = False
    """Whether the portal wants TLS, as scstd's URLs say (``iscsi+tls:``)."""
    account: tuple[str, bytes] | None = attrs.field(default=None, repr=False)
    """The name and the secret for CHAP; None to do without."""

    @classmethod
    def parse(cls, text: str) -> TargetURL:
        """
        Return what a URL says.

        :raises ValueError: it is none.
        """
        found = _URL.fullmatch(text)
        if found is None:
            raise ValueError(f"not iscsi://host:port/target/lun: {text!r}")
        user, password = found["user"], found["password"]
        return cls(
            found["host"].strip("[]"),
            int(found["port"] or PORT),
            found["target"],
            int(found["lun"]),
            found["tls"] is not None,
            None if user is None else (user, (password or "").encode()),
        )

    def options(self, *keys: tuple[str, str]) -> LoginOptions:
        """
        Return what a login there offers: these operational keys, and the account.
        """
        return LoginOptions(self.target, keys, account=self.account)
