"""Certificates for brokers that speak TLS, made for one test."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID


class Authority:
    """A CA, and the certificates that it gave out; each is written as NAME.pem and NAME.key.

    Args:
        folder: where they are written, the CA's own as ca.pem.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pair = _certificate("a test's CA", None)
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._pair[0].public_bytes(serialization.Encoding.PEM))

    def give(self, name: str, *, file: str = "") -> tuple[Path, Path]:
        """Return the files of a certificate for a name, on 127.0.0.1, and of its key."""
        certificate, key = _certificate(name, self._pair)
        paths = self._folder / f"{file or name}.pem", self._folder / f"{file or name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths


def sign(request: x509.CertificateSigningRequest) -> str:
    """Return a certificate for whoever asks, as PEM, by a CA that nobody knows."""
    certificate = _signed(request.subject, request.public_key(), None)
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Write a CA, and a certificate for 127.0.0.1 with its key; return the three files."""
    authority = Authority(folder)
    return authority.file, *authority.give("a test's broker", file="server")


_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _certificate(name: str, issuer: _Pair | None) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return _signed(subject, key.public_key(), issuer or (None, key)), key


def _signed(
    subject: x509.Name,
    key: CertificatePublicKeyTypes,
    issuer: tuple[x509.Certificate | None, ec.EllipticCurvePrivateKey] | None,
) -> x509.Certificate:
    authority, signing = issuer or (None, ec.generate_private_key(ec.SECP256R1()))
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject if authority else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
    )
    return builder.sign(signing, hashes.SHA256())
