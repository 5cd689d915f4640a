"""The cloud image on each Proxmox VE host that runs a machine of ours."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pulumi
import pulumi_proxmoxve as pve

from proxmox_swarm.settings.model import Settings


class HostImages:
    """Downloads the image once a host, named by cluster and content: a shared name would be taken and later removed."""

    def __init__(self, settings: Settings, provider: pve.Provider, parent: pulumi.Resource) -> None:
        image = settings.proxmox.image
        path = PurePosixPath(urlsplit(image.url).path)
        # The ending is what Proxmox VE reads the format from, whatever the one that serves the image calls it.
        file_name = f"{settings.marker}-{path.stem}-{image.sha512[:12]}.{image.format}"
        self._files = {
            host: pve.download.File(
                f"image-{host}",
                content_type="import",
                datastore_id=settings.proxmox.hosts[host].images,
                node_name=host,
                url=image.url,
                file_name=file_name,
                checksum=image.sha512,
                checksum_algorithm="sha512",
                overwrite=False,  # what is behind the URL may change; the digest decides
                overwrite_unmanaged=True,  # what a killed run left under our name may be half a file
                opts=pulumi.ResourceOptions(parent=parent, provider=provider),
            )
            for host in dict.fromkeys(node.host for node in settings.nodes.values() if not node.adopted)
        }

    def on(self, host: str) -> pve.download.File:
        """The image on a host; its id is what a disk is imported from."""
        return self._files[host]
