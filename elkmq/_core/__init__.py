"""The queue without I/O: what to send, how to read the answer, what to do next."""
