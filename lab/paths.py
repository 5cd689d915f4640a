"""Where a lab keeps its things. A lab is its directory: several, each with its own, run side by side."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "PROXMOX_SWARM_LAB"
_PROJECT = Path(__file__).resolve().parent.parent


def default_directory() -> Path:
    """``$PROXMOX_SWARM_LAB``, else ``.lab`` in the project's root."""
    return Path(os.environ.get(VARIABLE) or _PROJECT / ".lab").absolute()


@dataclass(frozen=True)
class Paths:
    """The files of the lab in ``root``."""

    root: Path

    @property
    def secrets(self) -> Path:
        """Private keys, token and passphrase; kept over ``lab down`` and ``lab up``."""
        return self.root / "secrets"

    @property
    def identity(self) -> Path:
        """The operator's SSH key, for the nodes and for the Proxmox VE hosts."""
        return self.secrets / "id_ed25519"

    @property
    def passphrase(self) -> Path:
        """The passphrase of Pulumi's secrets."""
        return self.secrets / "passphrase"

    @property
    def token(self) -> Path:
        """The API token: ``user@realm!name=secret``."""
        return self.secrets / "api-token"

    @property
    def ca(self) -> Path:
        """The certificate of the authority that signed the API's certificate."""
        return self.root / "ca.pem"

    @property
    def run(self) -> Path:
        """What exists only while the lab runs, and the machines' mount points and consoles."""
        return self.root / "run"

    @property
    def control(self) -> Path:
        """The daemon's control socket."""
        return self.run / "control.sock"

    @property
    def log(self) -> Path:
        """Log files; ``api.jsonl`` is the lab's own record."""
        return self.root / "log"

    @property
    def record(self) -> Path:
        """One JSON line for each API request and task."""
        return self.log / "api.jsonl"

    @property
    def pve(self) -> Path:
        """The emulated cluster's state."""
        return self.root / "pve"

    @property
    def storage(self) -> Path:
        """The contents of the hosts' storages."""
        return self.root / "storage"

    @property
    def images(self) -> Path:
        """The machine images in use, by digest."""
        return self.root / "images"

    @property
    def bin(self) -> Path:
        """Programs put first on PATH by ``lab exec``."""
        return self.root / "bin"

    @property
    def home(self) -> Path:
        """HOME of ``lab exec``."""
        return self.root / "home"

    @property
    def state(self) -> Path:
        """Pulumi's state backend."""
        return self.root / "state"

    @property
    def pulumi_home(self) -> Path:
        """PULUMI_HOME of ``lab exec``."""
        return self.root / "pulumi-home"

    @property
    def resolv_conf(self) -> Path:
        """``/etc/resolv.conf`` of ``lab exec``."""
        return self.root / "resolv.conf"

    @property
    def nsswitch(self) -> Path:
        """``/etc/nsswitch.conf`` of ``lab exec``: names come from DNS, not from a resolver on this machine."""
        return self.root / "nsswitch.conf"

    @property
    def ssh_config(self) -> Path:
        """The SSH client's configuration in ``lab exec``."""
        return self.root / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """Pinned host keys for that configuration."""
        return self.root / "known_hosts"

    @property
    def settings(self) -> Path:
        """Settings whose values come from this machine; stack files include it."""
        return self.root / "settings.yaml"

    def make(self) -> None:
        """Make the directories, private to their owner."""
        for path in (
            self.root, self.secrets, self.run, self.log, self.pve, self.storage, self.images, self.bin, self.home,
            self.home / ".ssh", self.state, self.pulumi_home,
        ):  # fmt: skip
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)


def write(path: Path, text: str | bytes, mode: int = 0o600) -> None:
    """Write a file in one step with these permissions from its first moment."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(text.encode() if isinstance(text, str) else text)
    temporary.replace(path)
