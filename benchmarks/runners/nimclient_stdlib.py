"""nimclient where pybase64 is not installed: base64 by the standard library."""

import sys

sys.modules["pybase64"] = None  # type: ignore[assignment]  # makes its import fail

from benchmarks.runners.nimclient_runner import connect  # noqa: E402  # after pybase64 is out of the way

__all__ = ["connect"]
