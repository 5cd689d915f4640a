"""`make bench`: what our own work costs, as ratios within one run, because machines are shared and noisy.

`make bench WHAT=calls` does one of them alone, `make bench WHAT="calls previews"` some.
"""

from __future__ import annotations

import argparse

from tests.bench import bring_up, calls, joins, previews, rolling

BENCHES = {
    "up": bring_up.main,
    "calls": calls.main,
    "previews": previews.main,
    "joins": joins.main,
    "rolling": rolling.main,
}


def main() -> None:
    """Those that are named, else all."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("what", nargs="*", choices=BENCHES, help="which (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--workers", type=int, default=25, help="how many workers `joins` lets join")
    given = parser.parse_args()
    for name in given.what or BENCHES:
        print(f"-- {name}: {(BENCHES[name].__doc__ or '').splitlines()[0]}", flush=True)
        BENCHES[name](given)


if __name__ == "__main__":
    main()
