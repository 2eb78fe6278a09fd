"""A certificate authority of a run's own, for stores that let in whoever shows a certificate of it, and nobody else."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_ALWAYS: Final = (datetime.datetime(1970, 1, 1), datetime.datetime(9999, 12, 31))
"""From when to when certificates hold, in UTC: the clocks of servers may be years away, which is no fault of theirs."""

_USES: Final = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


class Identity(NamedTuple):
    """A certificate and its key, each as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Issues certificates. Its key is drawn when it is made, is in no file, and is gone with this object."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("splitbrain")
        signs = x509.KeyUsage(**dict.fromkeys(_USES, False) | {"key_cert_sign": True})
        made = self._about(self._name, self._key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._root = made.add_extension(signs, critical=True).sign(self._key, hashes.SHA256())

    @property
    def certificate(self) -> bytes:
        """Its own certificate as PEM, by which its others are known."""
        return self._root.public_bytes(Encoding.PEM)

    def _about(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        own = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_ALWAYS[0])
            .not_valid_after(_ALWAYS[1])
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )

    def issue(self, name: str, address: str | None = None) -> Identity:
        """A new identity for a client, or for a server at ``address``, which is a client of other servers as well."""
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
        made = self._about(_name(name), key.public_key())
        if address is not None:
            uses.append(ExtendedKeyUsageOID.SERVER_AUTH)
            where = x509.IPAddress(ipaddress.ip_address(address))
            made = made.add_extension(x509.SubjectAlternativeName([where]), critical=False)
        made = made.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        return Identity(
            signed.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def client(self, name: str) -> ssl.SSLContext:
        """What a client connects with, which knows servers of this authority alone; its key is in no file."""
        identity = self.issue(name)
        context = ssl.create_default_context(cadata=self.certificate.decode())
        file = os.memfd_create(name)  # the library takes keys from files only
        try:
            os.write(file, identity.certificate + identity.key)
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
