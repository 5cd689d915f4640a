"""A few rounds of `make chaos`, as a person runs it. About five minutes; the long run is a person's own."""

from __future__ import annotations

import re
from pathlib import Path

from tests.lab.support import ROOT, Site

#: Of this seed the first rounds move managers, rebuild and power-cycle, with a fault of another kind in each.
SEED = "s2976"
ROUNDS = 3


def test_a_short_run_passes_and_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path / "unused", ROOT)
    said = site.run("make", "--silent", "chaos", f"ROUNDS={ROUNDS}", f"SEED={SEED}", timeout=1800).stdout
    assert f"seed {SEED}: {ROUNDS} rounds, all passed; worst time to converge " in said, said
    assert len(re.findall(r"^round +\d+ ", said, re.MULTILINE)) == ROUNDS, said
