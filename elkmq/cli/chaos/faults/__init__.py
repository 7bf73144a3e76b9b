"""The faults, each with what it must show."""
