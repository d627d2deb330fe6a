"""The endpoints that the receiver is compared with: one does nothing, one publishes a Celery task per request.

`python -m benchmarks.baselines empty|publish PORT` serves one of them with the options of `vodsync serve`. The publishing one
checks the signature as the receiver does, and reads broker, callback URL and key from vodsync's settings.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta

import msgspec
import uvicorn
from celery import Celery
from kombu import Exchange, Queue
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from worker.core import events, signature

QUEUE = "vodsync.benchmark"

_THREADS = 40  # the size of Starlette's thread pool; each thread has a connection


def empty() -> Starlette:
    async def accept(request: Request) -> Response:
        msgspec.json.decode(await request.body())
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/callbacks", accept, methods=["POST"])])


def publish() -> Starlette:
    """Publish a task per notification and answer when RabbitMQ has confirmed it."""
    queue = Queue(QUEUE, Exchange(QUEUE, type="topic"), QUEUE, queue_arguments={"x-queue-type": "quorum"})
    celery = Celery("benchmark", broker=os.environ["VODSYNC_BROKER_URL"])
    celery.conf.update(
        broker_transport_options={"confirm_publish": True},
        broker_pool_limit=_THREADS,
        task_queues=[queue],
        task_default_queue=QUEUE,
        task_default_exchange=QUEUE,
        task_default_exchange_type="topic",
        task_default_routing_key=QUEUE,
        task_ignore_result=True,
    )

    @celery.task(name="benchmark.fetch")  # type: ignore[untyped-decorator]  # Celery has no types
    def fetch(media_ids: list[str]) -> None:
        """Do nothing: no worker runs."""

    celery.finalize()
    url, key = os.environ["VODSYNC_CALLBACK_URL"], os.environ["VODSYNC_CALLBACK_KEYS"]

    async def accept(request: Request) -> Response:
        signature.verify(
            url=url,
            keys=[key],
            timestamp=request.headers.get("x-vod-timestamp"),
            signature=request.headers.get("x-vod-signature"),
            now=datetime.now(UTC),
            tolerance=timedelta(minutes=5),
        )
        notification = events.parse(await request.body())
        await run_in_threadpool(fetch.delay, notification.media_ids)
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/callbacks", accept, methods=["POST"])])


if __name__ == "__main__":
    uvicorn.run(
        {"empty": empty, "publish": publish}[sys.argv[1]](),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
