"""`cached_property` without the lock of Python 3.11: a child forked while another thread holds it would wait forever."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

cached_property = functools.cached_property

if not TYPE_CHECKING and sys.version_info < (3, 12):

    class cached_property(functools.cached_property):  # noqa: N801 - the name of the one it replaces
        """See functools.cached_property, which is like this from Python 3.12 on."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value
