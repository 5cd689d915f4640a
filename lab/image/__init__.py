"""The image the lab's machines boot from: Debian 13 with cloud-init, Docker and the QEMU guest agent.

``ensure(report)`` builds it once and keeps it in the cache; ``docker_cli()`` is the image's own Docker client.
"""

from proxmox_swarm.lab.image.cache import Image, ImageError, docker_cli, ensure

__all__ = ["Image", "ImageError", "docker_cli", "ensure"]
