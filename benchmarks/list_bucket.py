"""Measure the listing of a large bucket: ``python -m benchmarks.list_bucket [OBJECTS]``.

A small server in another process answers S3's ListObjectsV2 from memory, at once or 50 ms late like
a real one. Fetching all pages and throwing them away gives the server's time. Our whole listing
cuts the bucket into pieces, lists them with Beam, and writes, reads and combines the files. Fails
when ours takes more than twice the server's time, with answers 50 ms late.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import parse_qs, quote, unquote

FOLDERS, PAGE = 50, 1000
CONCURRENCY = 16  # requests at once, as of one worker
DELAY = 0.05  # seconds
MAX_RATIO = 2.0


class Listing:
    """Sorted synthetic keys, with the XML of each ready."""

    def __init__(self, objects: int) -> None:
        self.keys = [f"photos/{n * FOLDERS // objects:03d}/{n:09d}.jpg" for n in range(objects)]
        modified = "<LastModified>2024-01-01T00:00:00.000Z</LastModified>"
        end = modified + "<ETag>&quot;%032x&quot;</ETag><Size>%d</Size>"
        self.entries = [
            f"<Contents><Key>{key}</Key>{end % (number, 30_000 + number)}</Contents>"
            for number, key in enumerate(self.keys)
        ]

    def page(self, query: dict[str, list[str]]) -> str:
        """Return one answer: up to 1,000 keys, or all folders at once."""
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        low, high = bisect_left(self.keys, prefix), bisect_left(self.keys, prefix + "\U0010ffff")
        if "delimiter" in query:
            names = sorted({key[len(prefix) :].split("/")[0] for key in self.keys[low:high]})
            found = "".join(
                f"<CommonPrefixes><Prefix>{prefix}{name}/</Prefix></CommonPrefixes>"
                for name in names
            )
            return f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
        low = max(low, bisect_right(self.keys, after)) if after else low
        end = min(low + PAGE, high)
        more = (
            f"<NextContinuationToken>{self.keys[end - 1]}</NextContinuationToken>"
            if end < high
            else ""
        )
        state = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
        return f"<ListBucketResult>{state}{''.join(self.entries[low:end])}</ListBucketResult>"


async def serve(objects: int, delay: float) -> None:
    """Print the port, and answer until standard input ends."""
    listing = Listing(objects)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                method, target, _ = request.split(b"\r\n", 1)[0].decode().split(" ")
                await asyncio.sleep(delay)
                body = (
                    listing.page(parse_qs(target.partition("?")[2])).encode()
                    if method == "GET"
                    else b""
                )
                status = b"200 OK" if body else b"404 Not Found"
                writer.write(
                    b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def server(objects: int, delay: float) -> Iterator[int]:
    """Start a server in a process of its own, and yield its port."""
    words = [sys.executable, "-m", "benchmarks.list_bucket", str(objects), "--serve", str(delay)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield int(process.stdout.readline())
        process.stdin.close()


def fetch_all(port: int) -> int:
    """Fetch all pages, folder by folder, and read only their continuation tokens."""

    def fetch(connection: HTTPConnection, query: str) -> str:
        connection.request("GET", f"/bucket?list-type=2&{query}")
        return connection.getresponse().read().decode()

    def folder(prefix: str) -> int:
        connection, more, pages = HTTPConnection("127.0.0.1", port), "", 0
        while more or not pages:
            text = fetch(connection, f"prefix={prefix}{more}")
            found = re.search("<NextContinuationToken>(.*?)<", text[:500])
            more = f"&continuation-token={quote(found[1], safe='')}" if found else ""
            pages += 1
        return pages

    first = fetch(HTTPConnection("127.0.0.1", port), "prefix=photos/&delimiter=/")
    folders = [unquote(prefix) for prefix in re.findall("<Prefix>(.*?)</Prefix>", first)]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        return sum(pool.map(folder, folders))


def list_all(port: int) -> int:
    """List the bucket as a run does, with ``list_sources``."""
    from pipeline.runners.jobs import Submission
    from pipeline.runners.options import RunnerOptions
    from pipeline.runners.stall import StallWatch
    from pipeline.steps.listing import list_sources
    from transforms.sources import parse_input
    from transforms.storage import open_storage

    stores = (f"s3://bucket,endpoint=http://127.0.0.1:{port},region=us-east-1,anonymous=true",)
    with tempfile.TemporaryDirectory() as output:
        storage = open_storage(output)
        submission = Submission(RunnerOptions(), watch=StallWatch(storage, "runs/1/listing", 3600))
        with list_sources(
            [parse_input("s3://bucket/photos", stores)], storage, submission, stores
        ) as listing:
            return listing.rows


def main() -> None:
    """Measure both, without and with the delay, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.list_bucket", description=__doc__)
    parser.add_argument("objects", nargs="?", type=int, default=100_000)
    # For the server's process.
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve(arguments.objects, arguments.serve))
        return
    # Beam's workers and the server are local.
    os.environ["no_proxy"] = "localhost,127.0.0.1"
    with server(FOLDERS, 0) as port:
        # The first listing imports Beam and starts its threads.
        list_all(port)
    ratio = 0.0
    for delay in (0.0, DELAY):
        with server(arguments.objects, delay) as port:
            start = time.perf_counter()
            pages = fetch_all(port)
            theirs, start, used = (
                time.perf_counter() - start,
                time.perf_counter(),
                time.process_time(),
            )
            listed = list_all(port)
            ours, used = time.perf_counter() - start, time.process_time() - used
        assert listed == arguments.objects, listed
        ratio = ours / theirs
        print(
            f"{listed:,} objects in {pages} pages, {delay * 1000:.0f} ms late: fetched in "
            f"{theirs:.2f} s, listed in {ours:.2f} s ({ratio:.2f} ×), {used:.2f} s of it on our "
            "cores"
        )
    if ratio > MAX_RATIO:
        raise SystemExit(
            f"too slow: {ratio:.2f} times the server's time; the limit is {MAX_RATIO:g}"
        )


if __name__ == "__main__":
    main()
