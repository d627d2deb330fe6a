"""Roles whose connections lead to a server that only reads, and a worker with more threads than a pool has by default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import celery
import pytest
import sqlalchemy as sa

from tests.system.installation import PAIRS, Installation, analysed, installed
from tests.system.processes import eventually
from worker.queue.brokers import broker_options, sync_queue

CONCURRENCY = 32

_SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'vodsync'"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with installed(PAIRS["postgresql-rabbitmq"], tmp_path, VODSYNC_LEASE="5") as running:
        running.start_emulator("--media", "20", notify=False)
        running.start("receiver", "serve")
        running.wait_until_ready()
        yield running


def media_ids(installation: Installation) -> list[str]:
    ids: list[str] = installation.emulator.get("/media").json()["media_ids"]
    return ids


def wait_until_stored(installation: Installation, count: int) -> None:
    stored = "SELECT count(*) FROM vod_media WHERE state = 'ok'"
    eventually(
        lambda: installation.database.value(stored) == count,
        within=40,
        missing=lambda: f"{count} assets; logs:\n{installation.logs()[-4000:]}",
    )


def test_roles_connected_to_a_former_primary_work_within_seconds_of_the_failover(installation: Installation) -> None:
    """The server ends their connections, only reads when they connect again, and leads to the new primary after that."""
    installation.start("worker", "work", "--beat")
    database = sa.make_url(installation.settings["VODSYNC_DATABASE_URL"]).database
    heartbeat = "SELECT count(*) FROM vod_worker"
    eventually(lambda: installation.database.value(heartbeat), within=20, missing="the heartbeat of the worker")

    installation.database.do(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    installation.database.do(f"SELECT pg_terminate_backend(pid) {_SESSIONS}")
    statuses = [installation.notify(analysed(media_id)).status_code for media_id in media_ids(installation)[:5]]
    eventually(
        lambda: "the database server only reads" in database_state(installation).get("error", ""),
        within=20,
        missing=lambda: f"the reason in /readyz: {database_state(installation)}",
    )
    # Their connections stay as they are: only new ones can write.
    installation.database.do(f"ALTER DATABASE {database} RESET default_transaction_read_only")

    assert statuses == [200] * 5
    wait_until_stored(installation, 5)
    eventually(lambda: database_state(installation) == {"state": "ok"}, within=20, missing="a ready database")


def database_state(installation: Installation) -> dict[str, str]:
    state: dict[str, str] = installation.http.get("/readyz").json()["parts"]["database"]
    return state


def test_each_thread_of_a_worker_has_its_connection_while_the_database_is_slow(installation: Installation) -> None:
    for media_id in media_ids(installation):
        assert installation.notify(analysed(media_id)).status_code == 200
    waiting = f"SELECT count(*) {_SESSIONS} AND wait_event_type = 'Lock'"

    with installation.database.connection() as connection:
        connection.exec_driver_sql("BEGIN; LOCK TABLE vod_sync_request IN EXCLUSIVE MODE")
        worker = installation.start("worker", "work", "--concurrency", str(CONCURRENCY))
        send_wakeups(installation, 3 * CONCURRENCY)
        eventually(
            lambda: installation.database.value(waiting) >= CONCURRENCY,
            within=30,
            missing=lambda: (
                f"{CONCURRENCY} waiting threads, there are {installation.database.value(waiting)}; log:\n{worker.log[-3000:]}"
            ),
        )
        connection.exec_driver_sql("ROLLBACK")

    wait_until_stored(installation, 20)
    assert "QueuePool" not in worker.log


def send_wakeups(installation: Installation, count: int) -> None:
    url = installation.settings["VODSYNC_BROKER_URL"]
    queue = sync_queue(url)
    with celery.Celery(set_as_current=False) as app:
        app.conf.update(broker_options(url, installation.folder), task_queues=[queue], task_default_exchange_type="topic")
        for _ in range(count):
            app.send_task("vodsync.sync_batch", queue=queue, routing_key=queue.routing_key, ignore_result=True)
