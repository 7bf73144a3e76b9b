"""The asyncio shell: what the core decides, done over connections."""
