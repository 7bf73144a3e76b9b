"""Servers to break and a network that breaks: what the faults are made with. The tests stand on it too."""
