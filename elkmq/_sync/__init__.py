"""The sync shell. All of it is generated from ``elkmq._aio``, except what ``tools/async_to_sync.py`` lists as by hand."""
