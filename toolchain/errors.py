"""The error of this package."""

from __future__ import annotations

from collections.abc import Sequence


class ToolchainError(Exception):
    """A tool could not be had; the first line says which one and what to do."""


class SourceFailed(Exception):
    """One way to get a tool does not work here; the text says why. Not an error of the run: the next way may do."""


def nothing_worked(tool: str, failures: Sequence[tuple[str, str]], advice: str) -> ToolchainError:
    """Build the error for a tool that no source could give.

    ``failures`` are pairs of what was tried and why it failed; ``advice`` is one sentence on what to do now.
    """
    tried = "\n".join(f"  - {source}: {reason}" for source, reason in failures)
    return ToolchainError(f"{tool} could not be installed, downloaded or built. {advice}\nTried:\n{tried}")
