"""The STS stub behind TLS, with certificates that are created when it starts."""

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


def _certificate(name: str, *hosts: str) -> tuple[bytes, bytes]:
    """Return a key and its certificate, which is signed with that key, so that whoever trusts it needs no other."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in (name, *hosts)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret, certificate.public_bytes(pem)


class TlsStub(StsStub):
    """The stub at https://localhost, and at any other name that resolves to this machine.

    `bundle` is certifi's plus the stub's own certificate, so it is as large as in production.
    """

    def __init__(self, *hosts: str, asks_for_certificate: bool = False) -> None:
        super().__init__()
        self.delay = 0.0  # additional seconds that a handshake takes, as over a wide-area network
        self.handshakes = 0
        self.peers: list[str] = []  # the names on the clients' certificates
        self._folder = tempfile.TemporaryDirectory()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        secret, certificate = _certificate("localhost", *hosts)
        self._context.load_cert_chain(self._write("server.pem", secret + certificate))
        self.bundle = self._write("bundle.pem", Path(certifi.where()).read_bytes() + b"\n" + certificate)
        if asks_for_certificate:
            self._context.verify_mode = ssl.CERT_REQUIRED
        self.url = f"https://localhost:{self.server.server_port}"
        server: Any = self.server
        self._serve = server.finish_request
        server.finish_request = self._shake_hands
        server.RequestHandlerClass = _TlsHandler

    def _write(self, name: str, content: bytes) -> str:
        file = Path(self._folder.name, name)
        file.write_bytes(content)
        return str(file)

    def trusted_client(self, name: str) -> str:
        """Write a client's key and certificate, which the stub accepts from now on, into one file."""
        secret, certificate = _certificate(name)
        self._context.load_verify_locations(cadata=certificate.decode())
        return self._write(f"{name}.pem", secret + certificate)

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
