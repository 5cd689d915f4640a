"""``python -m proxmox_swarm.toolchain``: makes sure of the tools and prints where they are."""

from __future__ import annotations

import argparse
import sys

from proxmox_swarm import toolchain


def main() -> int:
    """Print the two directories, one ``name=path`` a line; progress goes to standard error. Return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m proxmox_swarm.toolchain",
        description="Make sure of the Pulumi CLI and the Proxmox VE plugin: installed, downloaded, or built.",
    )
    parser.add_argument("--locate", action="store_true", help="only look on this machine: no network, no build")
    arguments = parser.parse_args()
    try:
        tools = toolchain.locate() if arguments.locate else toolchain.ensure(_progress)
    except toolchain.ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the next run starts over with what is missing", file=sys.stderr)
        return 130
    if tools is None:
        print("error: not all tools are on this machine; run this without --locate", file=sys.stderr)
        return 1
    print(f"bin={tools.bin}")
    print(f"plugins={tools.pulumi_home_plugins}")
    return 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
