"""Rules between settings, once each of them is readable by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxmox_swarm.settings import daemon, rules_networks, rules_nodes, schema
from proxmox_swarm.settings.derive import IMAGE_FORMATS, image_ending
from proxmox_swarm.settings.errors import Path, Problem, show
from proxmox_swarm.settings.parse import Draft


def check(draft: Draft) -> Iterator[Problem]:
    """Every rule, on all pieces that could be read."""
    yield from rules_nodes.check(draft)
    yield from rules_networks.check(draft)
    if draft.proxmox is not None:
        yield from _image(draft.proxmox.image)
    if draft.docker is not None:
        yield from daemon.check(draft.docker.daemon)
    yield from _cluster(draft)
    yield from _lists(draft)


def _image(image: schema.Image) -> Iterator[Problem]:
    """Proxmox VE imports by the ends of names: the format must be one that it knows, said once or twice alike."""
    ending = image_ending(image.url)
    accepted = (
        "a disk image whose name ends in .qcow2, .raw or .vmdk; or in .img, with `format: qcow2` or `format: raw`"
    )
    if ending in IMAGE_FORMATS:
        if image.format is not None and image.format != ending:
            yield Problem(
                ("proxmox", "image", "format"),
                show(image.format),
                f"the end of the image's name says {ending}",
                f"{ending}, or settings without `format`",
            )
    elif ending in ("ova", "ovf"):
        yield _url(image, "that is a machine, not a disk", accepted)
    elif ending in ("xz", "gz", "bz2", "zst", "zip", "tar", "tgz"):
        yield _url(image, "Proxmox VE does not unpack what it imports", accepted)
    elif ending != "img":
        yield _url(image, "Proxmox VE tells a disk image by the end of its name", accepted)
    elif image.format is None:
        yield _url(image, "`.img` does not say what is in it", accepted, "Ubuntu's are qcow2: `qemu-img info` tells")


def _url(image: schema.Image, why: str, accepted: str, hint: str = "") -> Problem:
    return Problem(("proxmox", "image", "url"), show(image.url), why, accepted, hint)


def _cluster(draft: Draft) -> Iterator[Problem]:
    cluster = draft.cluster
    if cluster is None:
        return
    for pool in cluster.address_pool or ():
        if pool.prefixlen > cluster.subnet_size:
            yield Problem(
                ("cluster", "subnetSize"),
                show(cluster.subnet_size),
                f"the pool {pool} is smaller than one /{cluster.subnet_size}",
                f"a whole number from {pool.prefixlen} to 29",
            )
    election = 10 if cluster.election_tick is None else cluster.election_tick
    heartbeat = 1 if cluster.heartbeat_tick is None else cluster.heartbeat_tick
    if election <= heartbeat:
        yield Problem(
            ("cluster", "electionTick" if cluster.election_tick is not None else "heartbeatTick"),
            show(election if cluster.election_tick is not None else heartbeat),
            f"an election after {election} ticks, a heartbeat every {heartbeat}: a healthy leader would be voted out",
            "electionTick above heartbeatTick, ten times is recommended",
        )


def _lists(draft: Draft) -> Iterator[Problem]:
    """Lists that hold something twice."""
    if draft.proxmox is not None:
        yield from _twice(("proxmox", "endpoints"), draft.proxmox.endpoints)
    if draft.os is not None and draft.os.dns is not None:
        yield from _twice(("os", "dns", "servers"), draft.os.dns.servers)
    if draft.access is not None:
        bodies = [" ".join(key.split()[:2]) for key in draft.access.keys]
        for index, body in enumerate(bodies):
            if body in bodies[:index]:
                yield Problem(
                    ("access", "keys", index), None, f"the same key as keys[{bodies.index(body)}]", "each key once"
                )


def _twice(path: Path, values: Sequence[str]) -> Iterator[Problem]:
    for index, value in enumerate(values):
        if value in values[:index]:
            yield Problem((*path, index), show(value), "there twice", "each once")
