"""Pictures: latency and throughput of a benchmark or a job, how a call over many items was paced, how similar texts are.

Drawing needs matplotlib (`pip install nimclient[plot]`), which is imported when something is drawn, and opens no window. Each
picture has a table of shaded text beside it (`…_table`), for terminals, which needs nothing.
"""

from nimclient.plot._measured import benchmark, latency, latency_table, throughput, throughput_table
from nimclient.plot._progress import pacing, pacing_table
from nimclient.plot._similarity import similarity, similarity_table

__all__ = [
    "benchmark",
    "latency",
    "latency_table",
    "pacing",
    "pacing_table",
    "similarity",
    "similarity_table",
    "throughput",
    "throughput_table",
]
