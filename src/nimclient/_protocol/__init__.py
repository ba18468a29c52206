"""The wire as pure functions: no I/O, no clock and no randomness of its own."""
