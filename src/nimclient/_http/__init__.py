"""Sends and receives the bytes of one request; the only package that uses aiohttp and asyncio. Knows no route or retry."""
