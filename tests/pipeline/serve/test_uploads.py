"""Photos that never arrive whole: they keep nobody waiting, and leave no traceback."""

import asyncio
import json

import pytest

pytest.importorskip("starlette")

from pipeline.retrieval.searcher import SearchConfig
from pipeline.serve import app as app_module
from pipeline.serve.app import make_app
from pipeline.serve.images import Pictures
from pipeline.serve.library import Library


@pytest.fixture(scope="module")
def app(two_nights):
    library = Library(str(two_nights / "out"), SearchConfig())
    return make_app(library, Pictures(library.searcher.storage, ()))


async def post(app, receive):
    """Post a photo whose bytes ``receive`` gives; return the status and the answer."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/similar",
        "raw_path": b"/api/similar",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"content-length", b"1000")],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_photo_that_does_not_come_is_given_up(app, monkeypatch):
    monkeypatch.setattr(app_module, "_RECEIVE_SECONDS", 0.01)

    async def receive():
        await asyncio.Event().wait()

    async def several():
        # More than are received at the same time.
        return await asyncio.gather(*(post(app, receive) for _ in range(5)))

    answers = asyncio.run(several())
    assert {status for status, _ in answers} == {408}
    assert answers[0][1] == {"error": "the photo did not arrive within 0.01 seconds"}


def test_a_browser_that_leaves_is_no_mistake_of_ours(app):
    """Starlette logs a traceback of each exception that it hands on."""

    async def receive():
        return {"type": "http.disconnect"}

    status, _ = asyncio.run(post(app, receive))
    assert status == 400
