"""Certificates for brokers that speak TLS and devices that show one, made for one test."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


class Authority:
    """A CA, for 127.0.0.1 and for devices.

    Args:
        folder: where its files go.
        name: its common name.

    Attributes:
        certificate: its own, as a file.
    """

    def __init__(self, folder: Path, name: str = "a test's CA") -> None:
        self._folder = folder
        self._own = _certificate(name, None)
        self.certificate = folder / "ca.pem"
        self.certificate.write_bytes(self._own[0].public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Write a certificate and its key, NAME.pem and NAME.key; return the two files."""
        certificate, key = _certificate(name, self._own)
        paths = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Write a CA, and a certificate for 127.0.0.1 with its key; return the three files."""
    authority = Authority(folder)
    return authority.certificate, *authority.issue("server")


def _certificate(name: str, issuer: _Pair | None) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - hour)
        .not_valid_after(now + hour)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key
