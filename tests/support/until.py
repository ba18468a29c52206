"""Waiting, without a loop, for what a server or another process brings about in its own time."""

import threading
import time
from collections.abc import Callable

_news = threading.Condition()


def tell() -> None:
    """Let those who wait look again: a scripted server does so whenever it has got a request or lost a connection."""
    with _news:
        _news.notify_all()


def until(condition: Callable[[], object], seconds: float = 200.0) -> bool:
    """Whether the condition came true within that time. Where nobody tells of it, it is looked at now and then."""
    deadline = time.monotonic() + seconds
    with _news:
        while not condition():
            if time.monotonic() > deadline:
                return False
            _news.wait(0.02)
    return True
