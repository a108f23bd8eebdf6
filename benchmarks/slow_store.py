"""Serve a folder as an S3 store on loopback, each answer ``DELAY`` seconds late.

Answers ListObjectsV2 and GetObject. It is small and asynchronous, so that it takes little of the
cores that it shares with the measured job: ``python -m benchmarks.slow_store FOLDER DELAY`` prints
its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path


async def _serve(folder: Path, delay: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = request.split(b"\r\n", 1)[0].decode().split(" ")
                await asyncio.sleep(delay)
                path, _, query = target.partition("?")
                writer.write(
                    _listing(folder)
                    if query
                    else _response(method, folder / path.rsplit("/", 1)[-1])
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def _listing(folder: Path) -> bytes:
    """Return all files as one page of ListObjectsV2."""
    entries = []
    for path in sorted(folder.glob("*.jpg")):
        status = path.stat()
        modified = datetime.fromtimestamp(int(status.st_mtime), UTC).strftime(
            "%Y-%m-%dT%H:%M:%S.000Z"
        )
        entries.append(
            f"<Contents><Key>photos/{path.name}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>{status.st_mtime_ns:x}</ETag><Size>{status.st_size}</Size></Contents>"
        )
    page = f"<IsTruncated>false</IsTruncated>{''.join(entries)}"
    body = f"<ListBucketResult>{page}</ListBucketResult>".encode()
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
        % len(body)
        + body
    )


def _response(method: str, path: Path) -> bytes:
    if not path.is_file():
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    data = path.read_bytes()
    head = (
        "HTTP/1.1 200 OK\r\n"
        f"Content-Length: {len(data)}\r\n"
        f'ETag: "{path.stat().st_mtime_ns:x}"\r\n'
        f"Last-Modified: {formatdate(path.stat().st_mtime, usegmt=True)}\r\n\r\n"
    ).encode()
    return head if method == "HEAD" else head + data


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
