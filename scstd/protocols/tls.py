# SPDX-License-Identifier: MIT
"""
TLS portals that ask for certificates: the server endpoint ``scst-tls``, for
``--listen`` and wherever Twisted takes one::

    scst-tls:3261:certKey=server.pem:privateKey=server.key:clientCA=ca.pem

Twisted's own ``ssl`` and ``tls`` endpoints serve as well where initiators show none.
*certKey* is the server's certificate (with what links it to its root behind it), and
*privateKey* its key; without, it is in the same file.  With *clientCA* every initiator
has to show a certificate of one of these authorities.  A certificate whose common name
or alternative names are iSCSI names is good for those initiators alone (`names_of`).

iSCSI knows no STARTTLS: initiators that do not speak TLS go through a tunnel (stunnel,
socat).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import crypto
from twisted.internet import ssl
from twisted.internet.endpoints import SSL4ServerEndpoint

_ISCSI = ("iqn.", "eui.", "naa.")


def server_endpoint(
    reactor: Any,
    port: str,
    certKey: str,  # noqa: N803 - Twisted's spelling of the ssl endpoint
    privateKey: str = "",  # noqa: N803
    clientCA: str = "",  # noqa: N803
    interface: str = "",
) -> SSL4ServerEndpoint:
    """
    Return the endpoint.

    :raises ValueError: a file is not what it should be.
    :raises OSError: a file cannot be read.
    """
    chain = _certificates(certKey)
    key = _key(privateKey or certKey)
    trusted = None
    if clientCA:
        trusted = ssl.trustRootFromCertificates(
            [ssl.Certificate(one) for one in _certificates(clientCA)]
        )
    options = ssl.CertificateOptions(
        privateKey=key,
        certificate=chain[0],
        extraCertChain=chain[1:],
        trustRoot=trusted,
    )
    return SSL4ServerEndpoint(reactor, int(port), options, interface=interface)


def _certificates(path: str) -> list[crypto.X509]:
    """
    Return the certificates of a PEM file.
    """
    found = x509.load_pem_x509_certificates(Path(path).read_bytes())
    return [crypto.X509.from_cryptography(one) for one in found]


def _key(path: str) -> crypto.PKey:
    try:
        return crypto.load_privatekey(crypto.FILETYPE_PEM, Path(path).read_bytes())
    except crypto.Error as error:
        raise ValueError(f"{path}: not a private key in PEM") from error


def names_of(transport: Any) -> frozenset[str] | None:
    """
    Return the initiators that the certificate of a transport's other end is good for;
    None if it shows none, or one that names no initiator.
    """
    ask = getattr(transport, "getPeerCertificate", None)
    shown = None if ask is None else ask()
    if shown is None:
        return None
    certificate = shown.to_cryptography()
    subject = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names = {str(one.value) for one in subject}
    try:
        others = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
        names.update(others.get_values_for_type(x509.UniformResourceIdentifier))
        names.update(others.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        pass
    initiators = frozenset(
        name.lower() for name in names if name.lower().startswith(_ISCSI)
    )
    return initiators or None
