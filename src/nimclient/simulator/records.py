"""What the simulator remembers of a request. Values only; no server object is kept alive."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request that arrived.

    `path` is without the query; `headers` has lower-case names and the values as they came, keys included, which is
    why the repr leaves headers and body out; `json` is the decoded body, or None. `status` is None until an answer
    began. `disconnected` is True when the client left before its answer was complete.
    """

    method: str
    path: str
    headers: dict[str, str]
    json: Any = None
    status: int | None = None
    disconnected: bool = False

    def __repr__(self) -> str:
        left = " disconnected" if self.disconnected else ""
        return f"<RequestRecord {self.method} {self.path} {self.status}{left}>"
