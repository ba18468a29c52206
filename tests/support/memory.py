"""How much memory is kept, whatever this process had before."""

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def allocations() -> Iterator[Callable[[], int]]:
    """Gives a function: how many bytes of what Python has allocated since the beginning of the block are in use."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
