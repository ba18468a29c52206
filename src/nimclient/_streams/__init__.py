"""Bytes to events to chunks: SSE, accumulation, reasoning tags, the reader and the streams. Knows no socket."""
