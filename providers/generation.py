"""Numbers that stand for one rotation each: a higher one rotates once, a lower one is refused in preview."""

from __future__ import annotations

from typing import Any, ClassVar

from pulumi.dynamic import CheckFailure, CheckResult, DiffResult

from proxmox_swarm.providers.base import Props, Provider, is_unknown, plain, say


class Rotating(Provider):
    """Base of what has a ``generation``, and of what says in preview what a change of it means."""

    watched: ClassVar[tuple[str, ...]] = ("generation", "cluster_id")

    def setting(self, news: Props) -> str:
        """The key in settings that the number comes from."""
        raise NotImplementedError

    def words(self, olds: Props, news: Props) -> str:
        """What a change means, for a person who reads a preview."""
        raise NotImplementedError

    def check(self, _olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Refuse a number that goes down: what was rotated cannot be turned back."""
        old, new = plain(_olds.get("generation")), plain(news.get("generation"))
        if old is None or is_unknown(new) or new >= old:
            return CheckResult(news, [])
        reason = (
            f"{self.setting(news)} is {old} and cannot become {new}: each number stands for one rotation, and none can be "
            f"undone. Declare {old} to leave things as they are, or {old + 1} to rotate once more."
        )
        return CheckResult(news, [CheckFailure("generation", reason)])

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """As every provider's, and in words."""
        found = super().diff(_id, _olds, _news)
        if found.changes and (words := self.words(_olds, _news)):
            say("swarm", words)
        return found


def rises(olds: Props, news: Props) -> bool:
    """Whether a rotation is asked for."""
    new = news["generation"]
    return isinstance(new, int | float) and new > olds["generation"]
