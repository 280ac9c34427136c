"""The STS stub behind TLS, with its own certificate authority, created when it starts."""

from __future__ import annotations

import datetime
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from typing import Any

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sts_stub import StsStub, _Handler


class Authority:
    """A certificate authority; `bundle` is certifi's plus its own certificate, so it is as large as in production."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Authority of the tests")
        self._certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.bundle = folder / "bundle.pem"
        self.bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + _pem(self._certificate))
        self.certificate = folder / "authority.pem"
        self.certificate.write_bytes(_pem(self._certificate))

    def issue(self, name: str, *hosts: str) -> Path:
        """Write a certificate and its key into one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts or ["client"]])
        file = self._folder / f"{name}.pem"
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(secret + _pem(self._sign(_name(name), key, names)))
        return file

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: Any) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class TlsStub(StsStub):
    """The stub at https://localhost, and at any other name that resolves to this machine."""

    def __init__(self, *hosts: str, asks_for_certificate: bool = False, delay: float = 0.0) -> None:
        super().__init__()
        self.delay = delay  # additional seconds that a handshake takes, as over a wide-area network
        self.handshakes = 0
        self.peers: list[str] = []  # the names on the clients' certificates
        self._folder = tempfile.TemporaryDirectory()
        self.authority = Authority(Path(self._folder.name))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.authority.issue("server", "localhost", *hosts))
        if asks_for_certificate:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(self.authority.certificate)
        self.url = f"https://localhost:{self.server.server_port}"
        server: Any = self.server
        self._serve = server.finish_request
        server.finish_request = self._shake_hands
        server.RequestHandlerClass = _TlsHandler

    def _shake_hands(self, connection: socket.socket, address: Any) -> None:
        threading.Event().wait(self.delay)
        try:
            secured = self._context.wrap_socket(connection, server_side=True)
        except (ssl.SSLError, OSError):
            return
        with self.lock:
            self.handshakes += 1
            certificate: Any = secured.getpeercert()
            if certificate:
                self.peers.append(certificate["subject"][0][0][1])
        with secured:
            self._serve(secured, address)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


class _TlsHandler(_Handler):
    def _gone(self) -> bool:
        # MSG_PEEK does not work on a TLS connection.
        return False
