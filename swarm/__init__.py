"""The domain of Docker Swarm: engine, membership, quorum, settings of the cluster. No Pulumi in here."""
