"""The servers of the chaos suite, for every test."""

from elkmq.cli.chaos.testbed.servers import Binary, Server, ServerDied, binaries, default_binary, free_port, probe

__all__ = ["Binary", "Server", "ServerDied", "binaries", "default_binary", "free_port", "probe"]
