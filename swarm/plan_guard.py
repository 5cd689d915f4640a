"""The early word on a plan: what it would do to the managers that were last recorded. Pure functions, for the preview.

The guarantee is the live check under the cluster's lock (:mod:`proxmox_swarm.swarm.roles`); this one sees the whole plan
before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from proxmox_swarm.swarm.quorum import majority


def objections(recorded: Mapping[str, str], wanted: Mapping[str, str], *, fewer: bool = False) -> Iterator[str]:
    """Why a plan is refused, each with the steps that would work; nothing for a plan that may go on.

    ``recorded`` and ``wanted`` are the managers' addresses by name, empty where not known. ``fewer`` says that losing a
    majority of them is meant: they then go one at a time. Nothing makes it work to give several new addresses at once.
    """
    gone = [name for name in recorded if name not in wanted]
    if recorded and wanted and len(gone) >= majority(len(recorded)) and not fewer:
        several = len(gone) > 1
        yield (
            f"{len(gone)} of the {len(recorded)} managers would be removed or demoted ({', '.join(gone)}): a majority. "
            f"{_in_words(list(recorded), list(wanted))}"
            f"{' Or let one `up` take them out one at a time' if several else ' Or, if it is meant'}: "
            "guards: {fewerManagers: true}."
        )
    moved = [name for name, address in wanted.items() if recorded.get(name, address) != address]
    if len(moved) > 1:
        changes = ", ".join(f"{name} from {recorded[name]} to {wanted[name]}" for name in moved)
        yield (
            f"{len(moved)} managers would get other addresses at once ({changes}): each is rebuilt for it and has to find "
            f"the others where they are. Change {moved[0]}, `up`, then {', then '.join(moved[1:])}, with an `up` after each."
        )


def steps(recorded: Sequence[str], wanted: Sequence[str]) -> list[list[str]]:
    """Sets of managers to declare one after the other, from the recorded to the wanted ones, none of which is refused.

    Numbers in between are odd where they can be. No steps lead to no manager at all.
    """
    found: list[list[str]] = []
    current = list(recorded)
    while wanted and set(current) != set(wanted):
        leaving = [name for name in current if name not in wanted]
        coming = [name for name in wanted if name not in current]
        out = min(len(leaving), majority(len(current)) - 1)
        # Whoever comes takes the place of somebody who leaves; all come with the last who leave.
        put_in = len(coming) if out == len(leaving) else min(len(coming), max(out, 1))
        if out < len(leaving) and (len(current) - out + put_in) % 2 == 0:
            if out > 1:
                out -= 1
            elif put_in < len(coming):
                put_in += 1
        current = [name for name in current if name not in leaving[:out]] + coming[:put_in]
        found.append(current)
    return found


def _in_words(recorded: list[str], wanted: list[str]) -> str:
    """The steps as a person would be told them: what to take out and put in before each `up`."""
    told = []
    before = recorded
    sets = steps(recorded, wanted)
    for after in sets:
        out = [name for name in before if name not in after]
        put_in = [name for name in after if name not in before]
        words = [f"take out {', '.join(out)}"] if out else []
        words += [f"put in {', '.join(put_in)}"] if put_in else []
        told.append(" and ".join(words))
        before = after
    even = any(len(names) % 2 == 0 for names in sets[:-1])
    first, *rest = told
    return (
        "".join([first[0].upper(), first[1:], ", `up`", *(f"; then {step}, `up`" for step in rest)])
        + (" (an even number in between wants guards: {evenManagers: true})" if even else "")
        + "."
    )
