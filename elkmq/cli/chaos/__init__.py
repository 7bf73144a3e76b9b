"""``chaos``: the promises under fire."""
