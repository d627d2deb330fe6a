"""One call to the API, read from an HTTP request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request

#: Operation -> the parameters that contain ids.
ID_PARAMETERS = {"BatchGetMediaInfos": ("MediaIds", "ReferenceIds"), "GetVideoInfo": ("VideoId", "ReferenceId")}


@dataclass(frozen=True, slots=True)
class ApiCall:
    """The parts of a request that the API uses."""

    method: str
    #: The query string as it was sent, without the question mark.
    query: str
    #: Names are in lower case.
    headers: Mapping[str, str]
    #: The parameters of the query and the form together.
    parameters: Mapping[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """Return the name of the operation, which signature V3 has in a header and V1 in a parameter, or ""."""
        return self.headers.get("x-acs-action") or self.parameters.get("Action", "")

    @property
    def ids(self) -> list[str]:
        """Return all media and reference ids of the call, including repeated ones."""
        names = ID_PARAMETERS.get(self.operation, ())
        return [media_id for name in names for media_id in split_ids(self.parameters.get(name, ""))]


async def read_call(request: Request) -> ApiCall:
    """Return the call in a request. Form parameters take precedence over those of the query."""
    body = await request.body()
    query = request.scope["query_string"].decode("latin-1")
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        parameters |= parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return ApiCall(request.method, query, dict(request.headers.items()), parameters, body)


def split_ids(text: str) -> list[str]:
    """Return the ids in a comma-separated list, without white space and empty parts."""
    return [part.strip() for part in text.split(",") if part.strip()]
