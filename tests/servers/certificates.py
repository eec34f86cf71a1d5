"""Certificates of the tests' own authorities, as PEM files."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


class Certificate:
    """A certificate and its key: `cert`, `key`, and both in one file, `pem`."""

    def __init__(self, path: Path, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.cert, self.key = path.with_suffix(".crt"), path.with_suffix(".key")
        self.pem = path.with_suffix(".pem")
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.cert.write_bytes(cert.public_bytes(Encoding.PEM))
        self.key.write_bytes(secret)
        self.pem.write_bytes(secret + cert.public_bytes(Encoding.PEM))

    def context(self) -> ssl.SSLContext:
        """What a server shows it with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


class Authority:
    """Signs certificates; `cert` is its own, which clients trust."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        signed = _builder(self._name, self._name, self._key, DAY).add_extension(constraints, True)
        certificate = Certificate(folder / name, signed.sign(self._key, SHA256()), self._key)
        self.cert = certificate.cert

    def issue(self, name: str, host: str = "127.0.0.1", valid: timedelta = DAY) -> Certificate:
        """A server's certificate for one host; with a negative `valid` it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        address: x509.GeneralName = x509.DNSName(host)
        if host[0].isdigit():
            address = x509.IPAddress(ip_address(host))
        signed = (
            _builder(_name(name), self._name, key, valid)
            .add_extension(x509.SubjectAlternativeName([address]), False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
            .sign(self._key, SHA256())
        )
        return Certificate(self._folder / name, signed, key)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now + valid)
    )
