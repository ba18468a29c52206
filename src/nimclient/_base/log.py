"""The logger `nimclient`. A handler of the application that raises does not affect a call."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

from nimclient._base.init_lock import wait_for_imports

if hasattr(os, "register_at_fork"):  # again: the last hook runs first, and logging's takes a lock that imports wait for
    os.register_at_fork(before=wait_for_imports)


class _Log(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        kwargs.setdefault("stacklevel", 2)  # the caller's line, not this one
        try:
            super().log(level, msg, *args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever a handler raises; logging's own handlers do the same with it
            if logging.raiseExceptions and sys.stderr:
                traceback.print_exc()

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs


log = _Log(logging.getLogger("nimclient"))
