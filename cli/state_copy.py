"""A preview from a copy of a stack's state, where the state itself must not be touched for it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxmox_swarm.cli.pulumi import Stack


@contextmanager
def changed_copy(stack: Stack, change: Callable[[dict[str, Any]], bool]) -> Iterator[Stack]:
    """The stack itself where ``change`` changes nothing of its state, else a copy with the changed state, gone afterwards."""
    exported: dict[str, Any] = json.loads(stack.run("stack", "export"))
    if not change(exported.get("deployment") or {}):
        yield stack
        return
    with tempfile.TemporaryDirectory() as folder:
        state, home = Path(folder) / "state", Path(folder) / "home"
        state.mkdir()
        home.mkdir()
        plugins = Path(stack.environment.get("PULUMI_HOME") or Path.home() / ".pulumi") / "plugins"
        (home / "plugins").symlink_to(plugins)
        # A home of its own: making a stack selects it.
        copy = Stack(
            stack.name,
            stack.project,
            {**stack.environment, "PULUMI_BACKEND_URL": f"file://{state}", "PULUMI_HOME": str(home)},
        )
        copy.create()
        copy.replace_state(exported)
        yield copy
