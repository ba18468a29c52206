"""The hosted platform's polling, without its waits."""

import pytest

from nimclient._nvcf import platform


def poll_every(monkeypatch: pytest.MonkeyPatch, seconds: float, *, ttl: float | None = None) -> None:
    """Poll so often; `ttl`: for so many seconds without a new status, where it is not the platform's own."""
    monkeypatch.setattr(platform, "poll_intervals", lambda: iter(lambda: seconds, None))
    if ttl is not None:
        monkeypatch.setattr(platform, "poll_ttl", lambda asked: ttl)
