"""Damage requests in a proxy on loopback, at random but reproducibly.

Usage: ``python faulty_proxy.py UPSTREAM_PORT RATE SEED MAX_IN_A_ROW [FAULT …]``. Prints its port,
serves until its standard input ends, and then prints how many requests it saw and what it did to
them, as JSON. What happens to a request depends on the seed, the request and how often it came, not
on the order.

``500 503 429`` are answers instead of the server's. ``reset`` breaks the connection before the
server hears of the request. ``lost`` lets the server do it and breaks the connection instead of
answering; ``lost503`` answers 503 instead. ``cut`` breaks the connection in the middle of the
answer; ``slow`` sends the answer slowly. Three faults must be named: ``409 412`` are answers to
requests that create a new object, and to no others; ``flip`` changes one bit of an object's bytes,
at another place each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct
import sys
from collections import Counter
from dataclasses import dataclass, field

FAULTS = ("500", "503", "429", "reset", "lost", "lost503", "cut", "slow")
REFUSALS = {"409", "412"}


@dataclass
class Proxy:
    upstream: int
    rate: float
    seed: str
    max_in_a_row: int
    faults: tuple[str, ...] = FAULTS
    seen: Counter[str] = field(default_factory=Counter)
    in_a_row: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)

    def choose(self, request: str) -> str:
        """Return what to do to a request; "" for nothing."""
        self.seen[request] += 1
        self.done["requests"] += 1
        words = f"{self.seed} {request} {self.seen[request]}"
        number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") / 2**64
        if number >= self.rate or self.in_a_row[request] >= self.max_in_a_row:
            self.in_a_row[request] = 0
            return ""
        self.in_a_row[request] += 1
        fault = self.faults[int(number / self.rate * len(self.faults))]
        self.done[fault] += 1
        return fault

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            lengths = [
                line.split(":")[1] for line in lines if line.lower().startswith("content-length:")
            ]
            body = await reader.readexactly(int(lengths[0]) if lengths else 0)
            creates = any(line.lower().startswith("if-none-match:") for line in lines)
            fault = (
                self.choose(lines[0]) if creates or not REFUSALS.intersection(self.faults) else ""
            )
            if fault.isdecimal():
                writer.write(_answer(fault))
            elif fault == "reset":
                _break(writer)
            else:
                await self.pass_on(fault, await self.ask(head, body), writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def ask(self, head: bytes, body: bytes) -> bytes:
        """Return the server's whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        return answer

    async def pass_on(self, fault: str, answer: bytes, writer: asyncio.StreamWriter) -> None:
        head, _, body = answer.partition(b"\r\n\r\n")
        if fault == "lost503":
            writer.write(_answer("503"))
        elif fault == "lost" or (fault == "cut" and not body):
            _break(writer)
        elif fault == "cut":
            writer.write(head + b"\r\n\r\n" + body[: len(body) // 2])
            await writer.drain()
            _break(writer)
        else:
            if fault == "flip" and b"application/xml" not in head:
                place = self.done["flip"] % max(1, len(body))
                body = (
                    body[:place]
                    + bytes(byte ^ 4 for byte in body[place : place + 1])
                    + body[place + 1 :]
                )
            writer.write(head + b"\r\n\r\n")
            size = max(1, len(body) // 5) if fault == "slow" else len(body) or 1
            for start in range(0, len(body), size):
                writer.write(body[start : start + size])
                await writer.drain()
                await asyncio.sleep(0.05 if fault == "slow" else 0)


def _answer(code: str) -> bytes:
    return f"HTTP/1.1 {code} Trouble\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def _break(writer: asyncio.StreamWriter) -> None:
    """Reset the connection after the written bytes were sent."""
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


async def main() -> None:
    faults = tuple(sys.argv[5:]) or FAULTS
    proxy = Proxy(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4]), faults)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(proxy.done), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
