"""How long a node's own certificate is still good, and whether it should have been renewed by now."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID

#: A node renews its certificate at a random moment between 50 and 80 % of its life, and from then on tries again all the
#: time (swarmkit ca/config.go, ca/renewer.go). With less than this part left it has been trying in vain.
OVERDUE = 0.15


@dataclass(frozen=True)
class NodeCertificate:
    """``cluster_id`` is the swarm it is for; times in seconds since 1970, ``now`` by the clock of its host."""

    cluster_id: str
    not_before: float
    not_after: float
    now: float

    @property
    def left(self) -> float:
        """Seconds until it expires, negative afterwards."""
        return self.not_after - self.now

    @property
    def expired(self) -> bool:
        """Whether no other node accepts it any more."""
        return self.left <= 0

    @property
    def overdue(self) -> bool:
        """Whether it should have been renewed."""
        return self.left < OVERDUE * (self.not_after - self.not_before)


def read_certificate(pem: str, now: float) -> NodeCertificate | None:
    """The certificate in a PEM file (the first where there are several); None where there is none that can be read.

    The organisation in its subject is the swarm's id (swarmkit ca/certificates.go).
    """
    try:
        found = x509.load_pem_x509_certificates(pem.encode())[0]
    except (ValueError, IndexError):
        return None
    names = found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return NodeCertificate(
        str(names[0].value) if names else "",
        found.not_valid_before_utc.timestamp(),
        found.not_valid_after_utc.timestamp(),
        now,
    )
