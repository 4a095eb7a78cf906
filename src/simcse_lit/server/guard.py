"""Checks host, origin and length of each request before the API sees it, and adds security headers to each answer."""

from collections.abc import Collection
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Guard:
    """ASGI middleware that refuses requests from pages of other sites, and bodies that are too long.

    Its headers let the page load only files of this server. Starlette's TrustedHostMiddleware cannot replace the check of
    the host: it answers in plain text, and before starlette 1.7 it refuses `[::1]`.

    Args:
        app: the application to protect.
        hosts: allowed names in a request's Host; empty allows any. Without this check, another site could point its name at
            127.0.0.1 and read the answers.
        body: maximum bytes of a body.
        uploads: maximum bytes of a body by path, for paths that allow more.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], body: int, uploads: dict[str, int]) -> None:
        self._app = app
        self._hosts = hosts
        self._body = body
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        limit = self._uploads.get(scope["path"], self._body)
        refused = self._refusal(headers, limit)
        if refused is not None:
            await refused(scope, receive, with_headers)
            return
        seen = 0

        async def limited() -> Message:  # a chunked body does not declare its length
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, too_long(limit))
            return message

        await self._app(scope, limited, with_headers)

    def _refusal(self, headers: Headers, limit: int) -> JSONResponse | None:
        host = headers.get("host", "")
        if self._hosts and host.rpartition(":")[0] not in self._hosts and host not in self._hosts:
            return error(400, f"This server does not accept the host name {host[:100]!r}.")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return error(403, "Requests from pages of other sites are not allowed.")
        length = headers.get("content-length", "0")
        if not length.isdigit():
            return error(400, "Content-Length is not a number.")
        return error(413, too_long(limit)) if int(length) > limit else None


def error(status: int, message: str, **headers: str) -> JSONResponse:
    """Build a refusal: {"error": message}. JSON may bring half of a surrogate pair into a message; it is escaped."""
    content: dict[str, Any] = {"error": message.encode(errors="backslashreplace").decode()}
    return JSONResponse(content, status, headers)


def too_long(limit: int) -> str:
    """Say that a body has more than `limit` bytes."""
    return f"The body is longer than {limit / 1e6:g} MB."
