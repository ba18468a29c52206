"""The simulator's record of a request. Values only; no server object is kept alive."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class RequestRecord:
    """One request that arrived.

    `path` is without the query; `headers` has lower-case names and the values as received, keys included, which is
    why the repr leaves headers and body out; `json` is the decoded body, or None. `status` is None until a response
    began. `disconnected` is True if the client disconnected before the response was complete. `tokens` is how many tokens
    were generated, so far or until the client left; of several choices those of the longest.
    """

    method: str
    path: str
    headers: dict[str, str]
    json: Any = None
    status: int | None = None
    disconnected: bool = False
    tokens: int = 0

    def __repr__(self) -> str:
        left = " disconnected" if self.disconnected else ""
        return f"<RequestRecord {self.method} {self.path} {self.status}{left}>"


@dataclass(slots=True, eq=False)
class StoredAsset:
    """An asset; `data` is None until its bytes were uploaded."""

    id: str
    content_type: str
    description: str
    data: bytes | None = None

    def describe(self) -> dict[str, str]:
        """The platform's description of it."""
        return {
            "assetId": self.id,
            "contentType": self.content_type,
            "description": self.description,
            "createdAt": "2026-01-01T00:00:00Z",
        }
