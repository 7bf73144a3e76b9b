"""The proxy of the chaos suite, for every test."""

from elkmq.cli.chaos.testbed.proxy import Proxy

__all__ = ["Proxy"]
