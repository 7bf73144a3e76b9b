"""``python -m elkmq.cli``."""

from elkmq.cli import main

main()
