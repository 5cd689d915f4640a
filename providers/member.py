"""``Member``: one node's membership of the swarm, for the whole of its life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from proxmox_swarm.providers import machine, plan_words, wanted
from proxmox_swarm.providers.base import Props, Provider, plain, say, target, targets
from proxmox_swarm.providers.lazy import Lazy
from proxmox_swarm.swarm.member import MemberSpec, MemberState

if TYPE_CHECKING:
    from proxmox_swarm.swarm import maintenance, membership
else:
    maintenance = Lazy("proxmox_swarm.swarm.maintenance")
    membership = Lazy("proxmox_swarm.swarm.membership")

INPUTS = (
    "node",
    "address",
    "user",
    "host_key",
    "managers",
    "cluster_id",
    "role",
    "availability",
    "labels",
    "machine",
    "hardware",
    "data_path_port",
    "data_path",
    "deadlines",
    "proxmox",
    "adopted",
    "verdict",
)
#: What may be found otherwise than it was declared. Outputs hold both, or a second refresh would take drift for declared.
DECLARED = ("role", "availability", "labels")


class MemberProvider(Provider):
    """Joins, adopts, changes in place, and leaves in good order.

    ``machine`` is the VM's id: unknown exactly when the VM is being replaced, and then so is the member.
    ``hardware`` is what a running machine takes over only by a power cycle, which happens here, with the node drained.
    """

    watched = ("role", "availability", "labels", "verdict", "machine", "hardware", "managers")
    replacing = ("machine",)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """As every provider's, and in words what it means for the node: preview shows them."""
        found = super().diff(_id, _olds, _news)
        if found.changes:
            if words := plan_words.of_member(_olds, _news, wanted.away()):
                say(_news["node"], words)
            wanted.had_its_turn(_news["node"])
        return found

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Join with a token fetched at this moment, or adopt a node that is in this swarm already."""
        state = membership.join_or_adopt(
            _spec(props),
            targets(props["managers"]),
            props["cluster_id"],
            join_timeout=_deadline(props, "join"),
            role_timeout=_deadline(props, "role"),
        )
        say(props["node"], f"{state.role} {state.availability}")
        return CreateResult(props["node"], _declared(props, state))

    def read(self, id_: str, props: dict[str, Any]) -> ReadResult:
        """A verdict on the member. A host that does not answer is a verdict too, and never 'gone'."""
        spec = _spec({**props, **(props.get("declared") or {})})
        state = membership.observe(
            spec, targets(props["managers"]), props["cluster_id"], props["node_id"], last=_state(props)
        )
        outputs = _outputs(props, state)
        return ReadResult(id_, outputs, inputs={key: outputs[key] for key in INPUTS if key in outputs})

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> UpdateResult:
        """Bring the member to what is declared, in place, whatever became of it.

        Where only the list of managers is another one it is written down, and the node is not asked: it may be down.
        """
        if [key for key in self.watched if self._differs(key, _olds, _news)] == ["managers"]:
            return UpdateResult(_declared(_news, _state(_olds)))
        spec = _spec(_news, formerly=(_olds.get("declared") or {}).get("labels") or {})
        managers = targets(_news["managers"])
        leaving = wanted.leaving(_olds["managers"])
        if plain(_olds.get("hardware")) != plain(_news["hardware"]):
            say(spec.target.node, "power cycle: drain, off, on, activate")
            maintenance.with_node_out(
                spec.target,
                managers,
                _news["cluster_id"],
                lambda: machine.power_cycle(_news),
                drain_timeout=_deadline(_news, "drain"),
                back_timeout=_deadline(_news, "boot"),
                retiring=leaving,
            )
        state = membership.converge(
            spec,
            managers,
            _news["cluster_id"],
            _state(_olds),
            join_timeout=_deadline(_news, "join"),
            role_timeout=_deadline(_news, "role"),
            retiring=leaving,
        )
        return UpdateResult(_declared(_news, state))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        """Drain, wait for its tasks, demote, leave, remove; every step can be taken again after a kill."""
        say(_props["node"], "drain, leave")
        membership.remove(
            _spec(_props),
            targets(_props["managers"]),
            _props["cluster_id"],
            _props["node_id"],
            drain_timeout=_deadline(_props, "drain"),
            role_timeout=_deadline(_props, "role"),
            retiring=wanted.leaving(_props["managers"]),
        )


def _spec(props: Props, *, formerly: Props | None = None) -> MemberSpec:
    return MemberSpec(
        target=target(props),
        role=props["role"],
        availability=props["availability"],
        labels=dict(props["labels"]),
        data_path_port=int(props["data_path_port"]),
        data_path=props.get("data_path") or "",
        adopted=bool(props.get("adopted")),
        undeclared=tuple(sorted(set(formerly or {}) - set(props["labels"]))),
    )


def _state(props: Props) -> MemberState:
    return MemberState(
        verdict=props["verdict"],
        detail=props.get("detail") or "",
        node_id=props["node_id"],
        role=props["role"],
        availability=props["availability"],
        labels=dict(props["labels"]),
        engine_id=props.get("engine_id") or "",
    )


def _outputs(props: Props, state: MemberState) -> dict[str, Any]:
    return {
        **props,
        "verdict": state.verdict,
        "detail": state.detail,
        "node_id": state.node_id,
        "engine_id": state.engine_id,
        "role": state.role,
        "availability": state.availability,
        "labels": dict(state.labels),
    }


def _declared(props: Props, state: MemberState) -> dict[str, Any]:
    return {**_outputs(props, state), "declared": {key: props[key] for key in DECLARED}}


def _deadline(props: Props, name: str) -> float:
    return float(props["deadlines"][name])


class Member(Resource, module="swarm", name="Member"):
    """A node of the swarm. Outputs: ``node_id`` (the swarm's), ``verdict`` with ``detail``, and what was found.

    ``engine_id`` is how a rebuilt machine is told from one that left.
    """

    node_id: pulumi.Output[str]
    engine_id: pulumi.Output[str]
    verdict: pulumi.Output[str]
    detail: pulumi.Output[str]
    role: pulumi.Output[str]
    availability: pulumi.Output[str]
    labels: pulumi.Output[dict[str, str]]

    def __init__(
        self,
        name: str,
        *,
        node: str,
        address: str,
        user: str,
        host_key: pulumi.Input[str],
        managers: list[dict[str, pulumi.Input[str]]],
        cluster_id: pulumi.Input[str],
        role: str,
        availability: str,
        labels: dict[str, str],
        machine: pulumi.Input[str],
        hardware: dict[str, Any],
        data_path_port: int,
        data_path: str,
        deadlines: dict[str, int],
        proxmox: dict[str, Any],
        adopted: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            MemberProvider(),
            name,
            {
                "node": node,
                "address": address,
                "user": user,
                "host_key": host_key,
                "managers": managers,
                "cluster_id": cluster_id,
                "role": role,
                "availability": availability,
                "labels": labels,
                "machine": machine,
                "hardware": hardware,
                "data_path_port": data_path_port,
                "data_path": data_path,
                "deadlines": deadlines,
                "proxmox": proxmox,
                "adopted": adopted or None,
                "verdict": "ok",
                "detail": None,
                "node_id": None,
                "engine_id": None,
            },
            opts,
        )
