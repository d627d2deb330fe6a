"""Send requests over many connections from one process and measure the response times.

The sender runs on the same machine as the server, so it must use little CPU: requests are prepared bytes or three pieces joined
together, and a response equal to the last good one is not parsed again. `Result.cpu` near 1 means that the sender was the
bottleneck.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from secrets import randbits
from typing import cast

import msgspec
import uvloop

#: The placeholder for the media id in a template.
MEDIA_ID = "{media_id}"

CONNECTIONS = 64

_RESERVE = 60.0  # seconds in addition to those of the job


class Job(msgspec.Struct, kw_only=True):
    """The requests to send: each of `bodies` once, or for `seconds` the `template` with a new media id each time."""

    port: int
    path: str = "/callbacks"
    headers: Mapping[str, str] = {}
    connections: int = CONNECTIONS
    bodies: Sequence[str] = ()
    template: str = ""
    seconds: float = 0


class Result(msgspec.Struct, kw_only=True):
    """`latencies_ms` are sorted. `cpu` is the share of one core that the sender used."""

    answered: int
    refused: int
    seconds: float
    cpu: float
    latencies_ms: list[float]

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    def percentile(self, share: float) -> float:
        """Return the response time in milliseconds that this share of responses did not exceed."""
        return self.latencies_ms[min(len(self.latencies_ms) - 1, int(len(self.latencies_ms) * share))]


def run(job: Job) -> Result:
    """Send from another process. Raises CalledProcessError if the server closed a connection, TimeoutExpired without responses."""
    completed = subprocess.run(
        [sys.executable, "-m", __name__],
        input=msgspec.json.encode(job),
        stdout=subprocess.PIPE,
        check=True,
        timeout=job.seconds + _RESERVE,
    )
    return msgspec.json.decode(completed.stdout, type=Result)


class _SharedState:
    """The requests and results that the senders of one job share."""

    def __init__(self, job: Job) -> None:
        self.requests = _requests(job)
        self.deadline = time.perf_counter() + job.seconds if job.seconds else float("inf")
        self.latencies: list[float] = []
        self.refused = 0
        self.good_response = b""
        self.senders = job.connections
        self.done = asyncio.get_running_loop().create_future()

    def finish(self, error: Exception | None = None) -> None:
        self.senders -= 1
        if error is not None and not self.done.done():
            self.done.set_exception(error)
        elif self.senders == 0 and not self.done.done():
            self.done.set_result(None)


class _Sender(asyncio.Protocol):
    """One keep-alive connection with one open request."""

    def __init__(self, shared: _SharedState) -> None:
        self._shared = shared
        self._received = b""
        self._sent_at = 0.0
        self._finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport but do not inherit from it.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        shared = self._shared
        if data != shared.good_response:
            self._received += data
            if not _complete(self._received):
                return
            data, self._received = self._received, b""
            if data.startswith(b"HTTP/1.1 200 "):
                shared.good_response = data
            else:
                shared.refused += 1
        shared.latencies.append(time.perf_counter() - self._sent_at)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._finished:
            self._finished = True
            self._shared.finish(exc or ConnectionError("the server closed the connection"))

    def _send(self) -> None:
        now = time.perf_counter()
        request = next(self._shared.requests, None) if now < self._shared.deadline else None
        if request is None:
            self._finished = True
            self._transport.close()
            self._shared.finish()
            return
        self._sent_at = now
        self._transport.write(request)


def _complete(response: bytes) -> bool:
    head, blank, body = response.partition(b"\r\n\r\n")
    if not blank:
        return False
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= int(lengths[0]) if lengths else True


def _requests(job: Job) -> Iterator[bytes]:
    lines = [f"POST {job.path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in job.headers.items()]
    head = "\r\n".join(lines) + "\r\ncontent-length: "
    if job.bodies:
        yield from [f"{head}{len(body.encode())}\r\n\r\n{body}".encode() for body in job.bodies]
        return
    before, after = job.template.split(MEDIA_ID)
    length = len(before.encode()) + 32 + len(after.encode())
    first, last = f"{head}{length}\r\n\r\n{before}".encode(), after.encode()
    for number in count(randbits(96) << 32):
        yield b"%b%032x%b" % (first, number, last)


async def _send(job: Job) -> Result:
    loop = asyncio.get_running_loop()
    shared = _SharedState(job)
    cpu, started = time.process_time(), time.perf_counter()
    for _ in range(job.connections):
        await loop.create_connection(lambda: _Sender(shared), "127.0.0.1", job.port)
    await shared.done
    seconds = time.perf_counter() - started
    return Result(
        answered=len(shared.latencies) - shared.refused,
        refused=shared.refused,
        seconds=seconds,
        cpu=(time.process_time() - cpu) / seconds,
        latencies_ms=sorted(round(latency * 1000, 3) for latency in shared.latencies),
    )


if __name__ == "__main__":
    result = uvloop.run(_send(msgspec.json.decode(sys.stdin.buffer.read(), type=Job)))
    sys.stdout.buffer.write(msgspec.json.encode(result))
