"""Run moto's S3 server on loopback, and a server that misbehaves; use as pytest plugins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

# Keys that clients and servers have got wrong.
SPECIAL = [
    "a b.jpg",
    "ünï/日本😀.jpg",
    "100%.jpg",
    "a%2Fb.jpg",
    "a%20b.jpg",
    "c#d.jpg",
    "q?x=1&y.jpg",
    "+~'\"<>|^`{}.jpg",
]
SPECIAL += [
    "*.jpg",
    "[1].jpg",
    "back\\slash.jpg",
    " edge .jpg",
    "nfd-u\u0308.jpg",
    "Case.jpg",
    "case.jpg",
    "x" * 1000 + ".jpg",
]


@dataclass
class S3:
    """A fresh bucket, accessed through a client that is not ours."""

    client: Any
    bucket: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}"

    def put(self, key: str, data: bytes = b"data") -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def under(self, prefix: str) -> list[str]:
        return [key for key in self.keys() if key.startswith(prefix)]

    def keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]


_SERVER = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@contextmanager
def serve_s3() -> Iterator[str]:
    """Start a server, and yield its endpoint.

    It runs in a process of its own: deltalake's history and restore hold the GIL while they wait
    for an answer, so a thread of this process could never give it. It ends with this process.
    """
    words = [sys.executable, "-c", _SERVER]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin
        assert server.stdout
        yield server.stdout.readline().strip()
        server.stdin.close()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Start the server of the whole test run, and yield its endpoint."""
    with serve_s3() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3:
    """Make a bucket for the test, and set the environment that leads to it."""
    import boto3

    point_to(s3_endpoint, monkeypatch)
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    return S3(client, bucket)


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment as a user of an S3-compatible server does, and nothing else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@dataclass
class Misbehaving:
    """Serves ``body`` for every key; the name of a key says what goes wrong, and how often.

    ``503x2`` answers 503 twice, ``cut x3`` breaks the body off three times, ``403x9`` denies access
    nine times.
    """

    endpoint: str = ""
    body: bytes = bytes(range(256)) * 400
    etag: str = "abc"
    requests: Counter[str] = field(default_factory=Counter)
    queries: list[str] = field(default_factory=list)


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Misbehaving]:
    state = Misbehaving()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_PUT(self) -> None:
            self.answer(403)

        def do_GET(self) -> None:
            key = self.path.partition("?")[0].rpartition("/")[2]
            state.requests[key] += 1
            state.queries.append(self.path)
            trouble, _, times = re.sub(r"\..*", "", key).partition("x")
            if state.requests[key] > int(times or 0):
                self.send_body()
            elif trouble == "cut":
                self.send_body(cut=True)
            else:
                self.answer(int(trouble))

        def answer(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send_body(self, cut: bool = False) -> None:
            start, *end = map(int, re.findall(r"\d+", self.headers.get("Range", "0")))
            last = min([*end, len(state.body) - 1])
            self.send_response(206 if "Range" in self.headers else 200)
            if "Range" in self.headers:
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(state.body)}")
            self.send_header("Content-Length", str(last + 1 - start))
            self.send_header("ETag", f'"{state.etag}"')
            self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
            self.end_headers()
            self.wfile.write(
                state.body[start : start + 1000] if cut else state.body[start : last + 1]
            )
            if cut:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    point_to(state.endpoint, monkeypatch)
    yield state
    server.shutdown()
    server.server_close()
