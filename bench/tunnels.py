# SPDX-License-Identifier: MIT
"""
The way to a TLS portal for an initiator that has no TLS: a relay of socat's before it.

tgtd has no TLS, and libiscsi neither.  So what is compared is ours with ours, TLS and
no TLS, both by a relay: it takes as much from both but for its own half of the
encryption.  What TLS costs the target is the difference of its CPU time.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
from peers import Peer, free_port

from scstd.test.clients import find
from scstd.test.serving import Server
from scstd.test.test_tls import certificate, write


def listen(directory: Path) -> str:
    """
    Return an endpoint of ours with TLS, on a free port of the loopback; its certificate
    is made in *directory*.
    """
    pem = directory / "portal.pem"
    write(pem, certificate("localhost"))
    return f"scst-tls:0:certKey={pem}:interface=127.0.0.1"


def secret_url(server: Server) -> str:
    """
    Return the URL of LUN 0 at the portal with TLS, the second that it listens on.
    """
    _plain, secret = re.findall(r"iSCSI listens on (\S+)", server.log())
    return server.url.replace(server.portal, secret).replace("iscsi:", "iscsi+tls:")


@contextlib.contextmanager
def through(peer: Peer) -> Iterator[Peer]:
    """
    Yield a peer behind a relay, which speaks TLS where the URL says so.
    """
    scheme, _colon, rest = peer.url.partition("://")
    portal, _slash, lun = rest.partition("/")
    program = find("socat")
    if program is None:
        sys.exit("bench: socat is not installed (package socat)")
    tls = scheme == "iscsi+tls"
    onward = f"OPENSSL:{portal},verify=0" if tls else f"TCP:{portal}"
    port = free_port()
    process = subprocess.Popen(
        [
            *(program, "-b", "65536"),
            f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay",
            f"{onward},nodelay",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _attempt in range(100):
            with contextlib.suppress(ConnectionError):
                socket.create_connection(("127.0.0.1", port), 5).close()
                break
            time.sleep(0.05)
        yield attrs.evolve(peer, url=f"iscsi://127.0.0.1:{port}/{lun}")
    finally:
        process.terminate()
        process.wait(10)
