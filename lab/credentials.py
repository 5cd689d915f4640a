"""The lab's credentials: made once, kept over ``lab down`` and ``lab up``, so that what a stack stored stays valid."""

from __future__ import annotations

import datetime
import ipaddress
import secrets
import uuid
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxmox_swarm.lab.paths import Paths, write

TOKEN_ID = "root@pam!swarm"  # noqa: S105 - a name
_YEARS = 20


class Credentials:
    """Makes what is missing in ``paths`` and reads the rest."""

    def __init__(self, paths: Paths, addresses: Mapping[str, str]) -> None:
        self._paths = paths
        self._addresses = addresses

    def ensure(self) -> None:
        """Make whatever is not there yet."""
        paths = self._paths
        if not (paths.ca.exists() and self.tls_key.exists() and self.tls_certificate.exists()):
            self._make_certificates()
        if not paths.token.exists():
            write(paths.token, f"{TOKEN_ID}={uuid.uuid4()}\n")
        if not paths.passphrase.exists():
            write(paths.passphrase, secrets.token_urlsafe(32) + "\n")
        for path in (paths.identity, *(self.host_key(name) for name in self._addresses)):
            if not (path.exists() and path.with_suffix(".pub").exists()):
                _make_ssh_key(path, comment=path.name if path != paths.identity else "operator@lab")

    @property
    def tls_key(self) -> Path:
        """The API's private key."""
        return self._paths.secrets / "api.key"

    @property
    def tls_certificate(self) -> Path:
        """The API's certificate with its chain."""
        return self._paths.secrets / "api.pem"

    def host_key(self, host: str) -> Path:
        """The SSH host key of a Proxmox VE host."""
        return self._paths.secrets / f"ssh_host_{host}"

    @property
    def public_key(self) -> str:
        """The operator's public SSH key, one line."""
        return self._paths.identity.with_suffix(".pub").read_text().strip()

    @property
    def token(self) -> str:
        """``user@realm!name=secret``."""
        return self._paths.token.read_text().strip()

    def _make_certificates(self) -> None:
        ca_key, ca_name = ec.generate_private_key(ec.SECP256R1()), _name("Proxmox Swarm Lab CA")
        ca = (
            _certificate(ca_name, ca_name, ca_key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signing=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = []
        for host, address in self._addresses.items():
            names += [x509.DNSName(host), x509.DNSName(f"{host}.lab"), x509.IPAddress(ipaddress.ip_address(address))]
        leaf = (
            _certificate(_name("pve.lab"), ca_name, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signing=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        write(
            self.tls_key,
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
        write(self.tls_certificate, leaf.public_bytes(pem) + ca.public_bytes(pem))
        write(self._paths.ca, ca.public_bytes(pem), 0o644)
        # The authority's key is forgotten: nothing else is ever signed with it.


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
    )


def _usage(signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing, key_cert_sign=signing, crl_sign=signing, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _make_ssh_key(path: Path, comment: str) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    write(path.with_suffix(".pub"), public.decode() + f" {comment}\n", 0o644)
    write(path, private)
