"""Certificates for loopback: an authority, a server's and a client's leaf, and an authority that nobody trusts."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = dt.timedelta(days=2)
NAMES = x509.SubjectAlternativeName(
    [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
)


class _Authority:
    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(self.name, self.name, self.key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        self.certificate = builder.sign(self.key, hashes.SHA256())

    def issue(self, cert: Path, key: Path, name: str, purpose: x509.ObjectIdentifier) -> None:
        """Write a leaf and its key over whatever the files hold."""
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.name, own.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if purpose == ExtendedKeyUsageOID.SERVER_AUTH:
            builder = builder.add_extension(NAMES, critical=False)
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        leaf = builder.add_extension(authority_key, critical=False).sign(self.key, hashes.SHA256())
        cert.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            own.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


class Certificates:
    """PEM files in `folder`: ca, server_cert, server_key, client_cert, client_key, other_ca.

    The server is 127.0.0.1 and localhost. other_ca signed nothing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = folder / "ca.pem"
        self.server_cert, self.server_key = folder / "server.pem", folder / "server.key"
        self.client_cert, self.client_key = folder / "client.pem", folder / "client.key"
        self.other_ca = folder / "other-ca.pem"
        self._authority = _Authority("authority of the test")
        self._write(self._authority, self.ca)
        self._write(_Authority("another authority"), self.other_ca)
        self.renew_server()
        self.renew_client()

    def renew_server(self) -> None:
        """Another server certificate of the same authority, in the same files."""
        self._authority.issue(self.server_cert, self.server_key, "localhost", ExtendedKeyUsageOID.SERVER_AUTH)

    def renew_client(self) -> None:
        """Another client certificate of the same authority, in the same files."""
        self._authority.issue(self.client_cert, self.client_key, "cache", ExtendedKeyUsageOID.CLIENT_AUTH)

    def rotate(self) -> None:
        """Everything anew under a new authority, in the same files.

        A server shows it after `reload_tls`; a client that still trusts the old `ca` must then refuse.
        """
        self._authority = _Authority("next authority of the test")
        self._write(self._authority, self.ca)
        self.renew_server()
        self.renew_client()

    @staticmethod
    def _write(authority: _Authority, path: Path) -> None:
        path.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    # An hour of the past, for clocks that a test turns back.
    since = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(since).not_valid_after(since + LIFE)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
