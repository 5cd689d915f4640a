"""From raw settings to :class:`Settings`: the one way in."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

from proxmox_swarm.settings import daemon, model, rules, schema
from proxmox_swarm.settings.derive import disk_serial, holder_name, image_ending, mac_address, natural
from proxmox_swarm.settings.errors import SettingsError
from proxmox_swarm.settings.includes import with_includes
from proxmox_swarm.settings.parse import Draft, NodeDraft, parse
from proxmox_swarm.settings.rules_networks import DEFAULT_ADDRESS_POOL, addresses
from proxmox_swarm.settings.rules_nodes import holder_id


def load(
    config: Mapping[str, object], *, project: str, stack: str, base: Path, env: Mapping[str, str] | None = None
) -> model.Settings:
    """Read a stack's settings.

    ``config`` maps top-level keys without prefix to their values; ``base`` is the project's directory, which ``include``
    is relative to; ``env`` is the environment for ``include`` (the process's own by default).
    Raises :class:`SettingsError` with everything that is wrong. Reads the included files and nothing else.
    """
    return resolve(
        with_includes(config, project=project, stack=stack, base=base, env=env), project=project, stack=stack
    )


def resolve(config: Mapping[str, object], *, project: str, stack: str) -> model.Settings:
    """As :func:`load`, of settings that are complete: no file is read. Raises :class:`SettingsError`."""
    draft = parse(config)
    problems = [*draft.problems, *rules.check(draft)]
    if problems:
        raise SettingsError(problems, project=project, stack=stack)
    if not (
        draft.proxmox
        and draft.access
        and draft.os
        and draft.docker
        and draft.cluster
        and draft.deadlines
        and draft.rolling
        and draft.guards
    ):
        raise AssertionError("a piece of the settings is missing and nothing was reported")
    nodes = {name: _node(draft, draft.proxmox, draft.nodes[name]) for name in sorted(draft.nodes, key=natural)}
    return model.Settings(
        project=project,
        stack=stack,
        proxmox=_proxmox(draft.proxmox),
        nodes=nodes,
        access=model.Access(user=draft.access.user, keys=tuple(draft.access.keys)),
        os=model.HostSettings(
            dns_servers=tuple(draft.os.dns.servers) if draft.os.dns else (),
            dns_search=tuple(draft.os.dns.search) if draft.os.dns else (),
            apt_cache=draft.os.apt_cache.url if draft.os.apt_cache else None,
        ),
        docker=model.DockerSettings(
            daemon=daemon.merged(draft.docker.daemon), version=draft.docker.version, declared=dict(draft.docker.daemon)
        ),
        cluster=_cluster(draft.cluster, {node.nics[0].network for node in nodes.values()}),
        deadlines=model.Deadlines(**{name: getattr(draft.deadlines, name) for name in schema.Deadlines.model_fields}),
        rolling=model.Rolling(max_unavailable=draft.rolling.max_unavailable),
        allow_even_managers=draft.guards.even_managers,
        allow_fewer_managers=draft.guards.fewer_managers,
        raw={name: value for name, value in config.items() if name != "secrets"},
    )


def _proxmox(written: schema.Proxmox) -> model.Proxmox:
    hosts = {
        name: model.ProxmoxHost(
            name=name,
            datastore=host.datastore,
            images=host.images,
            snippets=host.snippets,
            ssh_address=host.ssh[0] if host.ssh else None,
            ssh_port=host.ssh[1] if host.ssh else 22,
        )
        for name, host in sorted(written.hosts.items(), key=lambda item: natural(item[0]))
    }
    return model.Proxmox(
        endpoints=tuple(written.endpoints),
        hosts=hosts,
        image=model.Image(
            url=written.image.url,
            sha512=written.image.sha512,
            format=written.image.format or image_ending(written.image.url),
            size=written.image.size,
        ),
        parallel=written.parallel,
        resource_pool=written.resource_pool,
        insecure=written.insecure,
        protect=written.protect,
    )


def _node(draft: Draft, proxmox: schema.Proxmox, node: NodeDraft) -> model.Node:
    spec = node.spec
    datastore = spec.datastore or proxmox.hosts[spec.host].datastore
    holder = holder_id(node)
    nics = []
    for name, _, address in addresses(draft, node):
        network = draft.networks[name]
        nics.append(
            model.Nic(
                network=name,
                bridge=network.bridge,
                vlan=network.vlan,
                mac=spec.macs.get(name) or mac_address(spec.id, network.vlan),
                address=str(address),
                prefix=network.subnet.prefixlen,
                gateway=str(network.gateway) if network.gateway is not None else None,
                mtu=network.mtu,
                declared_mac=name in spec.macs,
            )
        )
    data = None
    if holder is not None:
        data = model.DataDisk(
            size=spec.data,
            datastore=spec.data_datastore or datastore,
            holder_id=holder,
            holder_name=holder_name(node.name),
            serial=disk_serial(holder),
            mount=spec.data_mount,
        )
    return model.Node(
        name=node.name,
        pool=spec.pool,
        role=spec.role,
        availability=spec.availability,
        labels=dict(sorted(spec.labels.items())),
        host=spec.host,
        vm_id=spec.id,
        cpu=spec.cpu,
        memory=spec.memory,
        boot=spec.boot,
        datastore=datastore,
        data=data,
        nics=tuple(nics),
        generation=spec.generation,
        host_key=spec.host_key,
        discard=tuple(spec.discard),
    )


def _cluster(written: schema.Cluster, first_networks: Set[str]) -> model.ClusterSettings:
    return model.ClusterSettings(
        address_pool=tuple(str(pool) for pool in written.address_pool or [DEFAULT_ADDRESS_POOL]),
        subnet_size=written.subnet_size,
        data_path_port=written.data_path_port,
        data_path=written.data_path or ("" if len(first_networks) > 1 else next(iter(first_networks))),
        election_tick=written.election_tick,
        heartbeat_tick=written.heartbeat_tick,
        snapshot_interval=written.snapshot_interval,
        keep_old_snapshots=written.keep_old_snapshots,
        task_history=written.task_history,
        certificate_expiry=written.certificate_expiry,
        dispatcher_heartbeat=written.dispatcher_heartbeat,
        labels=None if written.labels is None else dict(sorted(written.labels.items())),
        autolock=written.autolock,
        rotate=model.Rotate(**{name: getattr(written.rotate, name) for name in schema.Rotate.model_fields}),
        undeclared=written.undeclared,
    )
