"""Keep other pages out: which requests are answered, and what our own page may load."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# A page of another name that resolves to this machine gets no answer ("DNS rebinding"). Any port is
# allowed, since a tunnel may have another one.
HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    # https://www.w3.org/TR/CSP3/
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Pages of other origins cannot embed the pictures.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guards:
    """Refuses requests of other pages, and adds HEADERS to all answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        problem = refusal(Headers(scope=scope))
        if problem is None:
            await self._app(scope, receive, send_with_headers)
        else:
            refused = JSONResponse({"error": problem}, 403)
            await refused(scope, receive, send_with_headers)


def refusal(headers: Headers) -> str | None:
    """Return why a request is not answered; None if it is."""
    host = headers.get("host", "")
    if _name(f"//{host}") not in HOSTS:
        return f"the host {host!r} is not served; open http://127.0.0.1 or http://localhost"
    # Browsers send it with each request of another origin that may change something.
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return f"a page of {origin!r} may not ask this server"
    # Their pictures and scripts come without origin. A link to the page is allowed.
    # https://www.w3.org/TR/fetch-metadata/
    site, goal = headers.get("sec-fetch-site"), headers.get("sec-fetch-dest")
    if site in ("cross-site", "same-site") and goal != "document":
        return "a page of another origin may not ask this server"
    return None


def _name(url: str) -> str | None:
    """Return the host of a URL; None when the host or its port is none."""
    try:
        parts = urlsplit(url)
        # Reading a port that is no number raises.
        return None if parts.port == 0 else parts.hostname
    except ValueError:
        return None
