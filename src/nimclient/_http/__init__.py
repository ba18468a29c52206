"""Moves the bytes of one request, and is the only room that knows aiohttp and asyncio. Knows no route, no model, no retry."""
