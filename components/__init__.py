"""Component resources: the graph of a cluster, and nothing but the graph."""
