"""The routes of the page: each answers with JSON, with a picture or with a file of the page."""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from pipeline.serve.filters import WHERE_SECONDS, Filters
from pipeline.serve.groups import groups_page
from pipeline.serve.guards import Guards
from pipeline.serve.images import Pictures
from pipeline.serve.library import Library, View
from pipeline.serve.map import Map
from pipeline.serve.pages import page_of, shown
from transforms.choices import MAX_IMAGE_BYTES
from transforms.errors import ImageError, Refused, UserError
from transforms.storage import StorageError

_PAGE = Path(__file__).parent / "page"
# The only files that are served, whatever a request asks for.
_FILES = {"/": "index.html", **{f"/{file.name}": file.name for file in _PAGE.glob("*.[jc]s*")}}
_NEIGHBOURS = 60
# Photos that are received or embedded at the same time. Each is in memory.
_UPLOADS = 2
# Longest time to receive a photo: one that does not come must not keep the others waiting.
_RECEIVE_SECONDS = 30.0


class Site:
    """Answers the requests of the page.

    Args:
        library: What is shown.
        pictures: Makes the thumbnails.
        where_seconds: How long a condition may compute.
    """

    def __init__(self, library: Library, pictures: Pictures, where_seconds: float) -> None:
        self._library = library
        self._pictures = pictures
        self._where_seconds = where_seconds
        self._map = Map()
        self._uploads = asyncio.Semaphore(_UPLOADS)

    def about(self, _: Request) -> Response:
        """Tell what is served: the table, its version and its counts."""
        view = self._library.view()
        return JSONResponse(
            {
                "table": view.table.url,
                "version": view.table.version,
                "rows": view.rows.num_rows,
                "failures": view.failures.num_rows,
                "newest_run": view.newest_run,
            }
        )

    def images(self, request: Request) -> Response:
        """List rows by uri: of the newest night, or with ``all=1`` of all nights."""
        view = self._library.view()
        rows = view.rows if request.query_params.get("all") else view.newest()
        return _page(request, self._filters(request).select(rows, view.table))

    def failures(self, request: Request) -> Response:
        """List the images without a vector, with the reasons."""
        filters = Filters(uri=request.query_params.get("uri", ""))
        view = self._library.view()
        return _page(request, filters.select(view.failures, view.table))

    def duplicates(self, request: Request) -> Response:
        """List the groups of near-duplicates."""
        output = self._library.searcher.storage
        view = self._library.view()
        return JSONResponse(groups_page(output, view, self._filters(request), _number(request)))

    def similar(self, request: Request) -> Response:
        """List the rows nearest to the row ``to``."""
        view = self._library.view()
        uri = request.query_params.get("to", "")
        _row(view, uri)
        return self._nearest(request, view, self._library.vector_of_row(view, uri))

    async def similar_to_photo(self, request: Request) -> Response:
        """List the rows nearest to the encoded image in the request's body."""
        async with self._uploads:
            photo = await _body(request, MAX_IMAGE_BYTES)
            return await run_in_threadpool(self._search_photo, request, photo)

    def _search_photo(self, request: Request, photo: bytes) -> Response:
        view = self._library.view()
        return self._nearest(request, view, self._library.vector_of_photo(photo))

    def _nearest(self, request: Request, view: View, vector: Any) -> Response:
        hits = self._library.similar(vector, view, self._filters(request), _NEIGHBOURS)
        return JSONResponse({"total": hits.num_rows, "items": shown(hits)})

    def map(self, request: Request) -> Response:
        """Return the places of the rows that meet the filters."""
        view = self._library.view()
        rows = self._filters(request).select(view.rows, view.table)
        return JSONResponse(self._map.points(view, rows))

    def picture(self, request: Request) -> Response:
        """Return the thumbnail of the row ``uri``: no other file is ever read."""
        row = _row(self._library.view(), request.query_params.get("uri", ""))
        # A later night may have another image of this uri, so the browser asks each time.
        mark = json.dumps(hashlib.sha256(row["etag"][0].as_py().encode()).hexdigest())
        headers = {"Cache-Control": "private, no-cache", "ETag": mark}
        if request.headers.get("if-none-match") == mark:
            return Response(status_code=304, headers=headers)
        return Response(self._pictures.of(row), media_type="image/jpeg", headers=headers)

    def _filters(self, request: Request) -> Filters:
        asked = request.query_params
        label, uri, where = (asked.get(name, "").strip() for name in ("label", "uri", "where"))
        return Filters(label, uri, where, self._where_seconds)


def make_app(library: Library, pictures: Pictures, where_seconds: float = WHERE_SECONDS) -> Guards:
    """Return the application that serves a library."""
    site = Site(library, pictures, where_seconds)
    routes = [
        *(Route(path, partial(_file, name)) for path, name in _FILES.items()),
        Route("/api/about", site.about),
        Route("/api/images", site.images),
        Route("/api/failures", site.failures),
        Route("/api/duplicates", site.duplicates),
        Route("/api/similar", site.similar),
        Route("/api/similar", site.similar_to_photo, methods=["POST"]),
        Route("/api/map", site.map),
        Route("/picture", site.picture),
    ]
    problems: dict[Any, Any] = {
        UserError: partial(_problem, 400),
        ImageError: _image_problem,
        Refused: partial(_problem, 503),
        StorageError: partial(_problem, 503),
        HTTPException: _http_problem,
        # Nobody reads this answer: the browser has left.
        ClientDisconnect: partial(_problem, 400),
        # A mistake of ours; the server's log has the traceback.
        Exception: partial(_problem, 500),
    }
    # Outside of the application, so that answers to its own mistakes are guarded too.
    return Guards(Starlette(routes=routes, exception_handlers=problems))


def _file(name: str, _: Request) -> Response:
    return FileResponse(_PAGE / name, headers={"Cache-Control": "no-cache"})


def _page(request: Request, rows: pa.Table) -> Response:
    return JSONResponse(page_of(rows, _number(request)))


def _number(request: Request) -> int:
    number = request.query_params.get("page", "0")
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise HTTPException(400, f"page={number!r}: a number, 0 or more")
    return int(number)


def _row(view: View, uri: str) -> pa.Table:
    row = view.row(uri)
    if row is None:
        raise HTTPException(404, f"{uri!r} is no row of the table")
    return row


async def _body(request: Request, limit: int) -> bytes:
    """Receive a body, and stop when it is larger than ``limit`` bytes or does not come."""
    received = bytearray()
    try:
        async with asyncio.timeout(_RECEIVE_SECONDS):
            async for chunk in request.stream():
                received += chunk
                if len(received) > limit:
                    raise HTTPException(413, f"the photo is larger than {limit:,} bytes")
    except TimeoutError as error:
        seconds = f"{_RECEIVE_SECONDS:g} seconds"
        raise HTTPException(408, f"the photo did not arrive within {seconds}") from error
    return bytes(received)


def _problem(status: int, _: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status)


def _image_problem(_: Request, error: ImageError) -> Response:
    said = f"{error.stage} failed: {error.kind.word}: {error.message}"
    return JSONResponse({"error": said}, 422)


def _http_problem(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code)
