"""Refusals as problem details (RFC 9457): the name of the kind, and a sentence that says what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

__all__ = ["KINDS", "MEDIA_TYPE", "Kind", "Problem"]

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """One kind of refusal: its HTTP status and its title.

    `closes`: whether the connection ends, because the rest of the body will not be read.
    """

    status: int
    title: str
    closes: bool = False


KINDS = {
    "host": Kind(421, "This host name is not served"),
    "origin": Kind(403, "Pages of other sites may not use this service"),
    "key": Kind(401, "An API key is needed"),
    "not-found": Kind(404, "There is nothing at this address"),
    "method": Kind(405, "This method is not allowed here"),
    "slow-upload": Kind(408, "The body arrives too slowly", closes=True),
    "body": Kind(413, "The body is too large", closes=True),
    "media-type": Kind(415, "The body has the wrong type", closes=True),
    "parameter": Kind(422, "A parameter is not valid", closes=True),
    "upload": Kind(422, "The body cannot be read", closes=True),
    "pictures": Kind(422, "Too many pictures", closes=True),
    "picture": Kind(422, "A picture cannot be used"),
    "too-many-requests": Kind(429, "Too many requests from this client", closes=True),
    "busy": Kind(503, "The service is busy", closes=True),
    "slow": Kind(503, "The prediction took too long"),
    "stopping": Kind(503, "The service is stopping", closes=True),
    "internal": Kind(500, "The service failed"),
}
"""Every kind of refusal by its name, which is the last part of a problem's ``type``."""


class Problem(Exception):
    """A refusal.

    Parameters
    ----------
    name : str
        One of `KINDS`.
    detail : str
        What is wrong with this request and what to do about it.
    retry_after : int, default=None
        Seconds after which the same request may succeed.
    **more
        Further members of the problem.
    """

    def __init__(self, name: str, detail: str, *, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.name = name
        self.kind = KINDS[name]
        self.detail = detail
        self.retry_after = retry_after
        self.more = more

    def members(self) -> dict[str, Any]:
        """Return the problem as the members of a JSON object."""
        return {
            "type": f"/v1/problems/{self.name}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            **self.more,
        }

    def response(self) -> Response:
        """Return the problem as an HTTP response."""
        headers = {"cache-control": "no-store"}
        if self.kind.closes:
            headers["connection"] = "close"
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.kind.status == 401:
            headers["www-authenticate"] = 'Bearer realm="agegender"'
        body = json.dumps(self.members(), ensure_ascii=False)
        return Response(body, self.kind.status, headers, MEDIA_TYPE)
