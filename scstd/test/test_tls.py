# SPDX-License-Identifier: MIT
"""
Tests for TLS portals (`scstd.protocols.tls`), with a real initiator behind a tunnel.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import TestCase

from scstd.test.clients import find, need
from scstd.test.serving import PATIENCE, Server, free_port
from scstd.test.test_real_initiators import call

INITIATOR = "iqn.2026-11.org.scstd:tls"

_Signed = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certificate(name: str, by: _Signed | None = None) -> _Signed:
    """
    Return a certificate for *name* and its key; signed *by* an authority, or by itself.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer, signer = (subject, key) if by is None else (by[0].subject, by[1])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), True)
        .sign(signer, hashes.SHA256())
    )
    return made, key


def write(path: Path, *signed: _Signed) -> None:
    """
    Write certificates and keys to a PEM file.
    """
    pem = serialization.Encoding.PEM
    path.write_bytes(
        b"".join(
            key.private_bytes(
                pem,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + made.public_bytes(pem)
            for made, key in signed
        )
    )


class TLSTests(TestCase):
    """
    A portal that asks for certificates.
    """

    timeout = 120

    def setUp(self) -> None:
        """Make an authority, a server's certificate, and clients'."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        authority = certificate("authority")
        stranger = certificate("stranger")
        for name, signed in (
            ("ca", authority),
            ("server", certificate("localhost", authority)),
            ("any", certificate("some host", authority)),
            ("ours", certificate(INITIATOR, authority)),
            ("other", certificate("iqn.2026-11.org.scstd:other", authority)),
            ("stranger", certificate(INITIATOR, stranger)),
        ):
            write(self.directory / f"{name}.pem", signed)

    @contextlib.contextmanager
    def tunnel(self, server: Server, client: str) -> Iterator[str]:
        """Yield a URL that leads to the server through TLS, with a certificate."""
        port = free_port()
        pem = self.directory / f"{client}.pem"
        program = find("socat")
        assert program is not None
        process = subprocess.Popen(
            [
                program,
                f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr",
                f"OPENSSL:{server.portal},cert={pem},key={pem},verify=0",
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            while True:
                self.assertIsNone(process.poll())
                with (
                    contextlib.suppress(ConnectionError),
                    socket.create_connection(("127.0.0.1", port), 5),
                ):
                    break
            yield server.url.replace(
                f"iscsi+tls://{server.portal}", f"iscsi://127.0.0.1:{port}"
            )
        finally:
            process.terminate()
            process.wait(10)

    def test_certificates(self) -> None:
        """Who has no certificate of ours, or one for another initiator, stays out."""
        need("socat", "iscsi-inq")
        pem = self.directory / "server.pem"
        listen = f"scst-tls:0:certKey={pem}:clientCA={self.directory / 'ca.pem'}"
        with Server(
            "--device",
            "d=memory:size=8M",
            directory=str(self.directory),
            listen=listen + ":interface=127.0.0.1",
        ) as server:
            for client, welcome in (
                ("any", True),
                ("ours", True),
                ("other", False),
                ("stranger", False),
            ):
                with self.tunnel(server, client) as url:
                    command = ("iscsi-inq", "-i", INITIATOR, url)
                    if welcome:
                        self.assertIn("SCSTD", call(*command, timeout=PATIENCE))
                    else:
                        self.assertRaises(
                            (AssertionError, subprocess.TimeoutExpired),
                            call,
                            *command,
                            timeout=5,
                        )
            self.assertIn("the certificate is not for", server.log())

    def test_urls(self) -> None:
        """The URLs are of a portal without TLS, if there is one."""
        need("iscsi-inq")
        tls = f"scst-tls:0:certKey={self.directory}/server.pem:interface=127.0.0.1"
        with Server(
            *("--device", "d=memory:size=8M"),
            *("--listen", "tcp:0:interface=127.0.0.1"),
            directory=str(self.directory),
            listen=tls,
        ) as server:
            self.assertIn("SCSTD", call("iscsi-inq", server.url, timeout=PATIENCE))

    def test_wrong_files(self) -> None:
        """Files that are not what they should be are named in one line."""
        (self.directory / "junk.pem").write_text("junk")
        for listen, word in (
            (f"scst-tls:0:certKey={self.directory}/none.pem", "none.pem"),
            (f"scst-tls:0:certKey={self.directory}/junk.pem", "junk.pem"),
            ("scst-tls:0", "scst-tls: missing a required argument: 'certKey'"),
        ):
            error = self.assertRaises(
                AssertionError,
                Server,
                "--device",
                "d=memory:size=1M",
                directory=str(self.directory),
                listen=listen,
            )
            self.assertIn(word, str(error))
            self.assertNotIn("Traceback", str(error))
