"""Requests to engines for one worker more."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter

from tests.unit.swarm.test_calls import ALLOWED, calls_to_add_a_worker


def main(_: argparse.Namespace) -> None:
    """Engine calls to add one worker to 7 and to 30 nodes.

    Counted, not timed: the real domain code against engines made of nothing (tests/unit/swarm/world.py), each call of which
    is one HTTP request of the real ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PROXMOX_SWARM_LOCKS"] = folder  # locks of its own
        found = {nodes: calls_to_add_a_worker(nodes) for nodes in (7, 30)}
    for nodes, calls in found.items():
        methods = Counter(method for _, method in calls)
        print(f"   {nodes:2} nodes: {len(calls)} calls ({', '.join(f'{m} {n}' for m, n in sorted(methods.items()))})")
    print(f"30/7 {len(found[30]) / len(found[7]):.2f} (aim {ALLOWED})")
