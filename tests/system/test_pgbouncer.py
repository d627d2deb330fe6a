"""All roles through a PgBouncer, under load, while another client uses the same server sessions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.pgbouncer import pgbouncer
from tests.system.installation import Database, Installation, created_database
from tests.system.processes import eventually

#: Assets of the library, which are loaded with `backfill`, and assets that are uploaded at the same time.
LIBRARY, UPLOADS = 200, 80

SETTINGS = ("search_path", "DateStyle", "statement_timeout", "plan_cache_mode")


class OtherClient:
    """Prepares statements with psycopg's names, and looks for settings that another client left."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0
        self.settings: set[tuple[str, ...]] = set()

    def __enter__(self) -> OtherClient:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._url, autocommit=True, prepare_threshold=None) as connection:
            while not self._stopped.is_set():
                # Each statement may run in another server session. In some the name exists already.
                with suppress(psycopg.errors.DuplicatePreparedStatement):
                    connection.execute(f"PREPARE _pg3_{self.rounds % 40} AS SELECT 'of another client'".encode())
                shown = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
                row = connection.execute(f"SELECT {shown}".encode()).fetchone()
                self.settings.add(tuple(row or ()))
                self.rounds += 1


@contextmanager
def installed_behind_pgbouncer(folder: Path, *, pool_mode: str, ignored: str) -> Iterator[tuple[Installation, str]]:
    """Yield a migrated installation, and the URL of PgBouncer."""
    with (
        created_database("postgresql", folder) as direct,
        pgbouncer(direct, pool_mode=pool_mode, ignored=ignored, pool_size=30) as url,
    ):
        installation = Installation(
            folder,
            database_url=url,
            broker_url=None,
            VODSYNC_DATABASE_SCHEMA="vod",
            VODSYNC_API_QPS="1000",
            VODSYNC_SEARCH_QPS="1000",
        )
        installation.database.close()
        installation.database = Database(f"{direct}?options=-c%20search_path%3Dvod")
        try:
            migrated = installation.run("migrate")
            assert migrated.returncode == 0, migrated.stderr
            yield installation, url
        finally:
            installation.close()


@pytest.mark.parametrize(("pool_mode", "ignored"), [("transaction", ""), ("session", "options")])
def test_nothing_is_lost_and_nothing_leaks_through_pgbouncer_under_load(tmp_path: Path, pool_mode: str, ignored: str) -> None:
    with installed_behind_pgbouncer(tmp_path, pool_mode=pool_mode, ignored=ignored) as (installation, url):
        installation.start_emulator("--media", str(LIBRARY), "--qps", "10000", "--search-qps", "10000")
        installation.start("receiver", "serve")
        installation.start("worker-1", "work", "--beat")
        installation.start("worker-2", "work")
        installation.wait_until_ready()

        with OtherClient(url) as other:
            uploads = installation.emulator.post("/uploads", json={"count": UPLOADS, "life_seconds": 0.1}).json()["media_ids"]
            loaded = installation.run("backfill", "--wait", within=60)
            installation.wait_until_synced(within=60)

        assert loaded.returncode == 0, loaded.stderr
        finished = "SELECT count(*) FROM vod_media WHERE state = 'ok'"
        eventually(
            lambda: installation.database.value(finished) == LIBRARY + UPLOADS,
            within=30,
            missing=lambda: f"media: {installation.database.value(finished)}; {installation.logs()[-3000:]}",
        )
        notified = {row["media_id"] for row in installation.database.rows("SELECT DISTINCT media_id FROM vod_notification")}
        schemas = installation.database.rows("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'vod%'")
        doctor = installation.run("doctor")
        assert set(uploads) <= notified
        assert schemas == [{"schemaname": "vod"}]
        assert "postgresql, reachable and writable, through a connection pooler" in doctor.stdout
        assert other.rounds > 100
        assert len(other.settings) == 1, other.settings
        assert "vod" not in next(iter(other.settings))
        assert "postponed" not in installation.logs()
        assert "unreachable" not in installation.logs()
