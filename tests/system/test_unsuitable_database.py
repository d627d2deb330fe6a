"""Each role and some verbs on a database that cannot store every title."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import own_database
from tests.system.installation import ACCESS_KEY_SECRET, CALLBACK_KEY, Database
from tests.system.processes import clean_environment, free_port, run

FAILED = 1
CONFIGURATION = 3


@pytest.fixture(scope="module")
def ascii_url() -> Iterator[str]:
    """A PostgreSQL database with the encoding SQL_ASCII."""
    for url in own_database("postgresql"):
        own = sa.make_url(url)
        administration = Database(url)
        administration.do(
            f"CREATE DATABASE {own.database}_ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
        yield own.set(database=f"{own.database}_ascii").render_as_string(hide_password=False)
        administration.do(f"DROP DATABASE {own.database}_ascii WITH (FORCE)")
        administration.close()


@pytest.mark.parametrize("verb", ["up", "serve", "work", "migrate", "status", "doctor"])
def test_a_database_that_cannot_store_every_title_is_refused_with_one_sentence(tmp_path: Path, ascii_url: str, verb: str) -> None:
    settings = {
        "VODSYNC_DATABASE_URL": ascii_url,
        "VODSYNC_PORT": str(free_port()),
        "VODSYNC_CALLBACK_URL": "http://a.example/callbacks",
        "VODSYNC_CALLBACK_KEYS": CALLBACK_KEY,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "key",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
        "VODSYNC_ENDPOINT": "http://127.0.0.1:9",
    }

    ended = run(verb, folder=tmp_path, environment=clean_environment(settings, tmp_path))

    sentence = "the PostgreSQL database has the encoding SQL_ASCII, which cannot store every title; create one with"
    if verb == "doctor":
        assert ended.returncode == FAILED
        assert f"bad     database: {sentence}" in ended.stdout
    else:
        assert ended.returncode == CONFIGURATION, ended.stderr
        assert [line.startswith(f"vodsync: {sentence}") for line in ended.stderr.splitlines()] == [True]
