"""Concurrent work: slices, the pacer, its window and rate, the gate, workers, counts. Knows no route and no HTTP."""
