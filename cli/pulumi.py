"""Running the Pulumi CLI on one stack, and reading what it leaves behind."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proxmox_swarm.cli.errors import CommandError
from proxmox_swarm.proxmox.endpoint import answers

STACKS = ".pulumi/stacks"
LOCKS = ".pulumi/locks/organization"


class Stack:
    """One stack of the project in the current folder, in the backend and with the passphrase that the environment names."""

    def __init__(self, name: str, project: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.project = project
        self.environment = dict(environment)

    def command(self, *words: str) -> list[str]:
        """The command line for a subcommand on this stack, whichever stack is selected."""
        return ["pulumi", *words, "--stack", self.name, "--non-interactive"]

    def run(self, *words: str) -> str:
        """Run a subcommand to its end and return what it printed. Raises CommandError with what it said."""
        done = subprocess.run(
            self.command(*words), cwd=self.project, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise self.failed(words[0], done.stderr + done.stdout)
        return done.stdout

    def failed(self, word: str, said: str) -> CommandError:
        """The error for a subcommand that failed and said this."""
        return CommandError(f"`pulumi {word}` failed on stack {self.name}", _errors(said))

    def exists(self) -> bool:
        """Whether the backend has this stack."""
        if (state := self.state_folder()) is not None:
            return (state / STACKS / _project_name(self.project) / f"{self.name}.json").exists()
        listed = subprocess.run(
            ["pulumi", "stack", "ls", "--json", "--non-interactive"],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if listed.returncode != 0:
            raise CommandError("the stacks could not be listed", listed.stderr)
        return any(entry["name"] == self.name for entry in json.loads(listed.stdout or "[]"))

    def create(self) -> None:
        """Make the stack without touching its settings file.

        ``stack init`` writes the salt of its encryption into the stack's file, which is a tracked one. Made from a folder
        that holds Pulumi.yaml alone, the salt is thrown away there; the state keeps its own copy, which the CLI uses when
        PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER is set (measured with 3.259.0).
        """
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(self.project / "Pulumi.yaml", folder)
            done = subprocess.run(
                ["pulumi", "stack", "init", self.name, "--non-interactive"],
                cwd=folder,
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise CommandError(f"stack {self.name} could not be made", done.stderr + done.stdout)
        self.run("stack", "select")  # the folder it was made from is gone, and with it the selection

    def outputs(self, *, secrets: bool = False) -> dict[str, Any]:
        """The stack's outputs; of secret ones the values only where ``secrets`` are asked for."""
        found: dict[str, Any] = json.loads(self.run("stack", "output", "--json", *["--show-secrets"] * secrets))
        return found

    def deployment(self) -> dict[str, Any]:
        """The stack's state, secrets encrypted."""
        exported: dict[str, Any] = json.loads(self.run("stack", "export"))
        state: dict[str, Any] = exported.get("deployment") or {}
        return state

    def edit(self, change: Callable[[dict[str, Any]], bool], *, keep: Path | None = None) -> bool:
        """Change the stack's state; ``change`` says whether it did. The CLI refuses that while the stack is locked.

        ``keep`` is a file that gets the state as it was, for its owner's eyes, before anything is changed.
        """
        text = self.run("stack", "export")
        exported: dict[str, Any] = json.loads(text)
        changed = change(exported.get("deployment") or {})
        if changed:
            if keep is not None:
                keep.touch(mode=0o600)
                keep.write_text(text)
            self.replace_state(exported)
        return changed

    def replace_state(self, exported: dict[str, Any]) -> None:
        """Put a state, as ``stack export`` tells it, in place of the stack's own."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "state.json"
            file.touch(mode=0o600)
            file.write_text(json.dumps(exported))
            self.run("stack", "import", "--file", str(file))

    def backend(self) -> str:
        """Where the state is, as a URL: said by the environment, else by Pulumi.yaml or the last login."""
        if url := self.environment.get("PULUMI_BACKEND_URL"):
            return url
        done = subprocess.run(
            ["pulumi", "whoami", "--json", "--non-interactive"],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CommandError("it is not known where the state is: set PULUMI_BACKEND_URL, or log in", done.stderr)
        return str(json.loads(done.stdout)["url"])

    def state_folder(self) -> Path | None:
        """The folder of a backend of files; None for any other backend."""
        scheme, _, place = self.backend().partition("://")
        if scheme != "file":
            return None
        place = place.partition("?")[0]
        if place == "~" or place.startswith("~/"):
            place = pwd.getpwuid(os.getuid()).pw_dir + place[1:]  # the account's, whatever HOME says
        return self.project / place

    def locks(self) -> list[dict[str, Any]]:
        """Who holds the stack's lock in a backend of files: process id and host name of each."""
        state = self.state_folder()
        if state is None:
            return []
        folder = state / LOCKS / _project_name(self.project) / self.name
        return [json.loads(file.read_text()) for file in folder.glob("*.json")] if folder.is_dir() else []


def _errors(said: str) -> str:
    """The lines of the CLI's output that say what went wrong, each once; all of it where none does, or on request."""
    lines = [line.strip() for line in said.splitlines()]
    errors = list(dict.fromkeys(line for line in lines if line.startswith(("error:", "* "))))
    return said if os.environ.get("PROXMOX_SWARM_DEBUG") or not errors else "\n".join(errors)


def around_lost_endpoint(state: dict[str, Any]) -> list[str]:
    """What makes ``refresh`` and ``destroy`` run the program, which takes another endpoint, where the recorded one is gone.

    By themselves they use the provider as it was last recorded (measured), and with it the endpoint of that time.
    """
    resources: list[dict[str, Any]] = state.get("resources") or []
    recorded = [
        r.get("inputs", {}).get("endpoint")
        for r in resources
        if r["type"] == "pulumi:providers:proxmoxve" and r["custom"]
    ]
    return ["--run-program"] if any(endpoint and not answers(endpoint) for endpoint in recorded) else []


def _project_name(project: Path) -> str:
    for line in (project / "Pulumi.yaml").read_text().splitlines():
        if line.startswith("name:"):
            return line.split(":", 1)[1].strip()
    raise CommandError("Pulumi.yaml has no name", str(project))
