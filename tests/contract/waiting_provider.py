"""A provider whose create waits: importable by the provider process, so pickled by reference as ours are."""

from __future__ import annotations

import time
from typing import Any

from pulumi.dynamic import CreateResult

from proxmox_swarm.providers.base import Provider

SECONDS = 1.0


class WaitingProvider(Provider):
    def create(self, props: dict[str, Any]) -> CreateResult:
        time.sleep(SECONDS)
        return CreateResult("waited", {})
