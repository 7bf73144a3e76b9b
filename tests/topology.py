"""The Sentinel and the Cluster of the chaos suite, for every test."""

from elkmq.cli.chaos.testbed.topology import Cluster, Sentinel

__all__ = ["Cluster", "Sentinel"]
