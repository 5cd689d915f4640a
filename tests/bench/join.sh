#!/bin/sh
# The shortest way from running machines to labelled workers: SSH and the Docker CLI, nothing checked, nothing kept.
# join.sh MANAGER WORKERS NODES: the address of a manager, a quoted list of workers' addresses, how many nodes there then are.
set -eu
manager=$1
workers=$2
nodes=$3

control=$(mktemp -d)
trap 'rm -rf "$control"' EXIT
on() { node=$1; shift; ssh -o ControlMaster=auto -o ControlPath="$control/%h" -o ControlPersist=5 "ansible@$node" sudo -n "$@"; }

token=$(on "$manager" docker swarm join-token -q worker)
for node in $workers; do on "$node" docker swarm join --token "$token" "$manager:2377" >/dev/null & done
wait
for name in $(on "$manager" docker node ls --filter role=worker --format '{{.Hostname}}'); do
  on "$manager" docker node update --label-add bench=true "$name" >/dev/null &
done
wait
until [ "$(on "$manager" docker node ls --format '{{.Status}}/{{.Availability}}' | grep -c '^Ready/Active$')" = "$nodes" ]; do
  sleep 0.2
done
