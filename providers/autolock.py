"""``Autolock``: whether managers lock themselves, the key that unlocks them, and unlocking those that wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.providers.base import Props, say, targets
from proxmox_swarm.providers.generation import Rotating, rises
from proxmox_swarm.providers.lazy import Lazy

if TYPE_CHECKING:
    from proxmox_swarm.swarm import autolock
else:
    autolock = Lazy("proxmox_swarm.swarm.autolock")

INPUTS = ("managers", "cluster_id", "enabled", "generation", "timeout", "verdict")
#: Always text, "" where there is none: what was never there could not have been marked a secret in state.
SECRET = ("key", "previous_key")
LOCKED = "locked"


class AutolockProvider(Rotating):
    """Turns locking on and off, rotates the key, unlocks. Comes before everything that takes a quorum."""

    watched = ("enabled", "generation", "verdict", "managers", "cluster_id")

    def setting(self, news: Props) -> str:
        """The key in settings that the number comes from."""
        return "cluster.rotate.unlockKey"

    def words(self, olds: Props, news: Props) -> str:
        """What a change means, for a person who reads a preview."""
        steps = ["unlock the managers that are locked"] if olds.get("verdict") == LOCKED else []
        if olds.get("enabled") != news.get("enabled"):
            on = "managers lock themselves: after a restart each waits for the key"
            steps.append(on if news.get("enabled") else "managers lock themselves no more")
        elif news.get("enabled") and rises(olds, news):
            steps.append("new unlock key")
        return "; ".join(steps)

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Lock the managers. Where that is not declared, a swarm whose managers are locked is refused."""
        where = targets(props["managers"])
        if not props["enabled"]:
            autolock.require_off(where, props["cluster_id"])
            return CreateResult("autolock", _outputs(props))
        lock = autolock.apply(where, props["cluster_id"], enabled=True, timeout=float(props["timeout"]))
        say("swarm", "managers lock themselves")
        return CreateResult("autolock", _outputs(props, key=lock.key))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """What is there; verdict ``locked`` while managers wait for their key. Where nobody answers, what was recorded."""
        seen = autolock.observe(targets(props["managers"]), props["cluster_id"])
        if seen.locked:
            say("swarm", f"locked: {', '.join(seen.locked)}")
        found = {**props, "verdict": LOCKED if seen.locked else "ok"}
        if seen.lock is None:
            outputs = _outputs(found, key=props["key"], previous=props["previous_key"])
        else:
            outputs = _outputs(
                {**found, "enabled": seen.lock.enabled},
                key=seen.lock.key,
                previous=_previous(props, seen.lock.key),
            )
        return ReadResult(id_, outputs, inputs={key: outputs[key] for key in INPUTS})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Unlock the managers that are locked, with the keys that state holds; then bring locking to what is declared."""
        where, cluster_id = targets(_news["managers"]), _news["cluster_id"]
        timeout = float(_news["timeout"])
        unlocked = autolock.unlock_to_a_quorum(
            where, cluster_id, [_olds["key"], _olds["previous_key"]], timeout=timeout
        )
        if unlocked:
            say("swarm", f"unlocked: {', '.join(unlocked)}")
        lock = autolock.apply(
            where,
            cluster_id,
            enabled=bool(_news["enabled"]),
            rotate=rises(_olds, _news),
            timeout=timeout,
        )
        if lock.key != _olds["key"]:
            before = "unlock key rotated" if _olds["key"] else "managers lock themselves"
            say("swarm", before if lock.enabled else "managers do not lock themselves any more")
        return UpdateResult(_outputs(_news, key=lock.key, previous=_previous(_olds, lock.key)))

    def _differs(self, key: str, olds: Props, news: Props) -> bool:
        # Who the managers are matters to a refresh, which asks them; only while there is a lock to ask about.
        return super()._differs(key, olds, news) and (key != "managers" or bool(news.get("enabled")))


def _outputs(props: Props, *, key: str = "", previous: str = "") -> dict[str, Any]:
    return {**props, "key": key, "previous_key": previous}


def _previous(props: Props, key: str) -> str:
    """The key before this one: a manager that was off when it changed still needs it."""
    return str(props["key"] if props["key"] not in ("", key) else props["previous_key"])


class Autolock(Resource, module="swarm", name="Autolock"):
    """The lock of the managers. Outputs: ``key`` and ``previous_key`` (secrets, "" for none), ``verdict``."""

    key: pulumi.Output[str]
    previous_key: pulumi.Output[str]
    verdict: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        managers: list[dict[str, pulumi.Input[str]]],
        cluster_id: pulumi.Input[str],
        enabled: bool,
        number: int,
        timeout: int,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            AutolockProvider(),
            name,
            {
                "managers": managers,
                "cluster_id": cluster_id,
                "enabled": enabled,
                "generation": number,
                "timeout": timeout,
                "verdict": "ok",
                "key": None,
                "previous_key": None,
            },
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=list(SECRET))),
        )
