"""All roles with a user of the database that may use the tables and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import own_database
from tests.database_users import PASSWORD, user_without_privileges
from tests.system.installation import PAIRS, Installation, analysed, installed
from worker.store import schema

USE = "SELECT, INSERT, UPDATE, DELETE"


@pytest.fixture(params=["postgresql-rabbitmq", "mariadb-redis"])
def restricted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Installation]:
    """An installation whose roles have a user that cannot change the schema, on a schema that an administrator has migrated."""
    with (
        installed(PAIRS[request.param], tmp_path) as installation,
        user_without_privileges(installation.settings["VODSYNC_DATABASE_URL"]) as user,
    ):
        objects = "ALL TABLES IN SCHEMA public" if user.url.startswith("postgresql") else "{database}.*"
        user.administrate(f"GRANT {USE} ON {objects} TO {{user}}")
        installation.settings["VODSYNC_DATABASE_URL"] = user.url
        yield installation
        # Before the user is dropped.
        for process in installation.processes.values():
            process.stop()


def test_every_role_works_with_the_privileges_to_use_the_tables(restricted: Installation) -> None:
    restricted.start_emulator("--media", "5", notify=False)
    migrated = restricted.run("migrate")
    restricted.start("receiver", "serve")
    restricted.start("worker", "work", "--beat")
    restricted.wait_until_ready()
    media_ids = restricted.emulator.get("/media").json()["media_ids"]

    statuses = [restricted.notify(analysed(media_id)).status_code for media_id in media_ids]
    restricted.wait_until_synced()
    doctor, status = restricted.run("doctor"), restricted.run("status")

    assert statuses == [200] * 5
    assert restricted.database.count("vod_media") == 5
    assert (migrated.returncode, migrated.stderr) == (0, f"the database has schema revision {schema.REVISION}\n")
    assert status.returncode == 0, status.stderr
    assert "ok      database" in doctor.stdout
    assert "ok      schema" in doctor.stdout
    assert '"level":"error"' not in restricted.logs()
    assert PASSWORD not in restricted.logs()


@pytest.mark.parametrize("verb", ["migrate", "up"])
@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_without_privileges_there_is_one_sentence_and_the_code_for_configuration(database: str, verb: str, tmp_path: Path) -> None:
    for url in own_database(database):
        with user_without_privileges(url) as user, installation_without_migrations(tmp_path, user.url) as installation:
            ended = installation.run(verb)

    assert ended.returncode == 3
    assert "an administrator of the database has to run: GRANT" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert PASSWORD not in ended.stderr


@contextmanager
def installation_without_migrations(folder: Path, url: str) -> Iterator[Installation]:
    installation = Installation(folder, database_url=url, broker_url=None)
    yield installation
    installation.close()
