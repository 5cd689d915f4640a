"""Dynamic providers, one resource a file: props to a dataclass, a call to the domain, outputs back. No rules of swarm here.

The dotted path of every provider class is part of Pulumi's state, where it is pickled by reference;
tests/unit/providers pins them.
"""
