"""From bytes to events to chunks: SSE, accumulation, reasoning tags, readers and streams. Knows no socket."""
