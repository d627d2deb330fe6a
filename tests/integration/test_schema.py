"""Migrations on each of the three databases."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.conftest import own_database
from worker.core.errors import StaleSchemaError
from worker.store import Store, schema
from worker.store.engine import open_engine
from worker.store.tables import metadata


def test_models_and_migrations_agree(empty_url: str) -> None:
    schema.upgrade(empty_url)

    engine = open_engine(empty_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


def test_every_migration_can_be_reverted(empty_url: str) -> None:
    store = Store.open(empty_url)
    steps = [step.revision for step in schema.pending(store)]

    for step in steps:
        schema.upgrade(empty_url, revision=step)
        assert schema.current(store) == step
    for before in reversed(["base", *steps[:-1]]):
        schema.downgrade(empty_url, revision=before)
    schema.upgrade(empty_url)

    assert schema.pending(store) == []
    store.close()


def test_reverting_all_migrations_leaves_no_table(empty_url: str) -> None:
    schema.upgrade(empty_url)

    schema.downgrade(empty_url, revision="base")

    engine = open_engine(empty_url)
    assert [name for name in sa.inspect(engine).get_table_names() if name != schema.VERSION_TABLE] == []
    engine.dispose()


def test_all_tables_begin_with_vod(empty_url: str) -> None:
    schema.upgrade(empty_url)

    engine = open_engine(empty_url)
    names = sa.inspect(engine).get_table_names()
    engine.dispose()
    assert names
    assert all(name.startswith("vod_") for name in names)


def test_an_empty_database_is_stale_and_the_message_names_the_command(empty_url: str) -> None:
    store = Store.open(empty_url)

    with pytest.raises(StaleSchemaError, match="vodsync migrate"):
        schema.check(store)
    schema.upgrade(empty_url, revision="0001")
    with pytest.raises(StaleSchemaError, match=r"0001.*vodsync migrate"):
        schema.check(store)
    store.close()


def test_the_required_revision_is_the_newest_migration() -> None:
    scripts = ScriptDirectory.from_config(schema._configuration())

    assert scripts.get_current_head() == schema.REVISION


def test_with_a_postgresql_schema_no_table_is_in_public() -> None:
    for url in own_database("postgresql"):
        schema.upgrade(url, schema="media")

        engine = open_engine(url)
        names = sa.inspect(engine).get_table_names(schema="media")
        public = sa.inspect(engine).get_table_names(schema="public")
        engine.dispose()
        assert "vod_media" in names
        assert public == []
