"""What a program inside the lab sees: its environment, the name service files, the SSH and Docker clients."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import yaml

from proxmox_swarm.lab import image
from proxmox_swarm.lab.credentials import Credentials
from proxmox_swarm.lab.network import DNS_SERVERS, HOSTS
from proxmox_swarm.lab.paths import VARIABLE, Paths, write
from proxmox_swarm.lab.prerequisites import search_path

#: The first manager of the lab's stack: where a plain ``docker`` command goes.
_DOCKER_HOST = "ssh://ansible@192.168.4.30"


def environment(paths: Paths) -> dict[str, str]:
    """The environment of ``lab exec``: that of the caller with the lab's own values over it."""
    from proxmox_swarm import toolchain  # only here: a lab runs without Pulumi too

    venv = Path(sys.prefix) / "bin"
    path = [str(paths.bin), str(venv), search_path()]
    if tools := toolchain.locate():
        tools.link_plugins(paths.pulumi_home)
        path.insert(1, str(tools.bin))
    own = {
        "PATH": os.pathsep.join(path),
        "HOME": str(paths.home),
        VARIABLE: str(paths.root),
        "PULUMI_HOME": str(paths.pulumi_home),
        # Without metadata=skip each file has a companion, written in place: a kill at that moment leaves it empty, and the
        # CLI then reads no stack at all ("error: EOF", measured with 3.259.0).
        "PULUMI_BACKEND_URL": f"file://{paths.state}?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(paths.passphrase),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
        "PULUMI_PARALLEL": "32",
        "PROXMOX_VE_API_TOKEN": paths.token.read_text().strip(),
        "PROXMOX_VE_SSH_USERNAME": "root",
        "PROXMOX_VE_SSH_PRIVATE_KEY": paths.identity.read_text(),
        "PROXMOX_SWARM_SSH_KEY": str(paths.identity),
        "SSL_CERT_FILE": str(paths.ca),
        "REQUESTS_CA_BUNDLE": str(paths.ca),
        "CURL_CA_BUNDLE": str(paths.ca),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "DOCKER_HOST": _DOCKER_HOST,
    }
    if not sys.stdin.isatty():
        own["PULUMI_SKIP_CONFIRMATIONS"] = "true"  # nobody is there to answer
    inherited = {k: v for k, v in os.environ.items() if k not in ("PULUMI_CONFIG_PASSPHRASE", "DOCKER_CONTEXT")}
    return {**inherited, **own}


def prepare(paths: Paths, credentials: Credentials, image_url: str, source: image.Image) -> None:
    """Write the files that ``lab exec`` and the stack files use. Harmless to repeat."""
    write(paths.resolv_conf, "search lab\n" + "".join(f"nameserver {server}\n" for server in DNS_SERVERS), 0o644)
    write(paths.nsswitch, "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n", 0o644)
    write(
        paths.ssh_config,
        f"IdentityFile {paths.identity}\nIdentitiesOnly yes\nUserKnownHostsFile {paths.known_hosts}\n"
        "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\nConnectTimeout 10\nServerAliveInterval 15\n",
        0o644,
    )
    keys = [f"{host},{address} {_public(credentials.host_key(host))}\n" for host, address in HOSTS.items()]
    if not paths.known_hosts.exists():  # the stack's outputs add the nodes' keys
        write(paths.known_hosts, "".join(keys))
    ssh = shutil.which("ssh", path="/usr/bin:/bin") or "/usr/bin/ssh"
    write(paths.bin / "ssh", f'#!/bin/sh\nexec {ssh} -F "{paths.ssh_config}" "$@"\n', 0o755)
    docker = paths.bin / "docker"
    docker.unlink(missing_ok=True)
    docker.symlink_to(image.docker_cli())
    write(paths.settings, _settings(credentials.public_key, image_url, source))


def declares(paths: Paths, image_url: str, source: image.Image) -> bool:
    """Whether the settings name this image already."""
    if not paths.settings.exists():
        return False
    written: dict[str, dict[str, object]] = yaml.safe_load(paths.settings.read_text()) or {}
    return written.get("proxmox", {}).get("image") == _image(image_url, source)


def _public(key: Path) -> str:
    kind, text, *_ = key.with_suffix(".pub").read_text().split()
    return f"{kind} {text}"


def _image(url: str, source: image.Image) -> dict[str, object]:
    return {"url": url, "sha512": source.sha512, "size": source.size_gib}


def _settings(public_key: str, url: str, source: image.Image) -> str:
    values = {
        "proxmox": {"image": _image(url, source)},
        "access": {"keys": [public_key]},
    }
    return "# Written by `lab up`: values that this machine made.\n" + json.dumps(values, indent=2) + "\n"
