#!/bin/sh
# The shortest way from started machines to a labelled swarm: SSH and the Docker CLI, nothing checked, nothing kept.
# floor.sh SSH_CONFIG MANAGERS WORKERS, each a quoted list of addresses; the first manager initialises.
set -eu
config=$1
managers=$2
workers=$3

on() { node=$1; shift; ssh -F "$config" "$node" "$@"; }
wait_for() { until on "$1" docker info >/dev/null 2>&1; do sleep 0.2; done; }

for node in $managers $workers; do wait_for "$node" & done
wait
first=${managers%% *}
on "$first" docker swarm init --advertise-addr "$first" >/dev/null
token=$(on "$first" docker swarm join-token -q manager)
for node in ${managers#"$first"}; do on "$node" docker swarm join --token "$token" "$first:2377" >/dev/null; done
token=$(on "$first" docker swarm join-token -q worker)
for node in $workers; do on "$node" docker swarm join --token "$token" "$first:2377" >/dev/null & done
wait
for name in $(on "$first" docker node ls --format '{{.Hostname}}'); do
  on "$first" docker node update --label-add bench=true "$name" >/dev/null &
done
wait
until [ "$(on "$first" docker node ls --format "'{{.Status}} {{.Availability}}'" | grep -c '^Ready Active$')" = "$(echo $managers $workers | wc -w)" ]; do
  sleep 0.2
done
