"""Serve a folder as an S3 store on loopback, each answer ``DELAY`` seconds late.

Answers ListObjectsV2 and GetObject, also of a range. It is small and asynchronous, so that it takes
little of the cores that it shares with the measured job: ``python -m benchmarks.slow_store FOLDER
DELAY`` prints its port and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path


async def _serve(folder: Path, delay: float) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = request.split(b"\r\n", 1)[0].decode().split(" ")
                wanted = re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)", request)
                await asyncio.sleep(delay)
                path, _, query = target.partition("?")
                writer.write(
                    _listing(folder)
                    if query
                    else _response(method, folder / path.rsplit("/", 1)[-1], wanted)
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


def _response(method: str, path: Path, wanted: re.Match[bytes] | None) -> bytes:
    if not path.is_file():
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    size = path.stat().st_size
    first, last = (int(wanted[1]), min(int(wanted[2]), size - 1)) if wanted else (0, size - 1)
    with path.open("rb") as file:
        file.seek(first)
        data = b"" if method == "HEAD" else file.read(last - first + 1)
    head = (
        f"HTTP/1.1 {'206 Partial Content' if wanted else '200 OK'}\r\n"
        f"Content-Length: {last - first + 1}\r\n"
        + (f"Content-Range: bytes {first}-{last}/{size}\r\n" if wanted else "")
        + f'ETag: "{path.stat().st_mtime_ns:x}"\r\n'
        f"Last-Modified: {formatdate(path.stat().st_mtime, usegmt=True)}\r\n\r\n"
    ).encode()
    return head + data


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
