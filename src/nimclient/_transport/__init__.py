"""The transport moves the bytes of one request; it is the only place that knows aiohttp and asyncio."""
