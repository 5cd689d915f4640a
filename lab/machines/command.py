"""Runs system commands."""

import asyncio

COMMAND_TIMEOUT = 30.0


class CommandError(RuntimeError):
    """A system command failed; the text has the command and what it said."""


async def run(*command: str, stdin: str | None = None) -> str:
    """Runs a system command to its end; returns its output. Raises `CommandError`."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(stdin.encode() if stdin else None), COMMAND_TIMEOUT)
    except TimeoutError:
        process.kill()
        raise CommandError(f"{' '.join(command)}: no end after {COMMAND_TIMEOUT:.0f} s") from None
    text = output.decode(errors="replace").strip()
    if process.returncode:
        raise CommandError(f"{' '.join(command)}: exit code {process.returncode}: {text}")
    return text
