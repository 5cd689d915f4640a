"""Numbers that stand for one rotation each: a higher one rotates once, a lower one is refused in preview."""

from __future__ import annotations

from typing import Any

from pulumi.dynamic import CheckFailure

from proxmox_swarm.providers.base import Props, is_unknown, plain


def lower(olds: Props, news: Props, setting: str) -> list[CheckFailure]:
    """A failure where ``generation`` goes down: what was rotated cannot be turned back."""
    old, new = plain(olds.get("generation")), plain(news.get("generation"))
    if old is None or is_unknown(new) or new >= old:
        return []
    return [
        CheckFailure(
            "generation",
            f"{setting} is {old} and cannot become {new}: each number stands for one rotation, and none can be undone. "
            f"Declare {old} to leave things as they are, or {old + 1} to rotate once more.",
        )
    ]


def rises(olds: Props, news: Props) -> bool:
    """Whether a rotation is asked for."""
    return bool(_number(news) > _number(olds))


def _number(props: Props) -> Any:
    return plain(props["generation"])
