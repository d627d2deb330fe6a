"""A notification with an id that VOD's API does not accept: it ends as a dead letter, and disturbs nothing else."""

from __future__ import annotations

from sqlalchemy import select

from tests.builders import NOON, SECOND, element, notify, source_context
from worker.store import Store
from worker.store.catalogue import media_view
from worker.store.inbox.dead_letters import DeadLetterFilter, DeadLetters
from worker.store.installation_health import installation_health
from worker.store.tables import media
from worker.sync.batch import BatchResult, sync_batch
from worker.vod.testing import FakeVod

INVALID = ["10a5fa36****", "a b", "x" * 1000, "\u5a92\u4f53", "a,b"]
KEYS = {"invalid:10a5fa36****", "invalid:a?b", "invalid:" + "x" * 100, "invalid:??"}


def sync(store: Store, vod: FakeVod) -> BatchResult:
    return sync_batch(store, source_context(vod), now=NOON + SECOND, sleep=lambda _seconds: None)


def dead_letters(store: Store) -> dict[str, str]:
    with store.reading() as connection:
        return {letter.media_id: letter.error or "" for letter in DeadLetters(connection).find(DeadLetterFilter(), limit=100)}


def test_invalid_ids_become_dead_letters_without_a_call_that_names_them(store: Store) -> None:
    vod = FakeVod()
    vod.put(element("good"))
    notify(store, "good", *INVALID)

    result = sync(store, vod)

    assert (result.saved, result.dead_lettered) == (1, len(KEYS))
    assert vod.calls == [["good"]]
    assert dead_letters(store).keys() == KEYS
    assert all("vodsync sync ID" in error for error in dead_letters(store).values())
    with store.reading() as connection:
        assert list(connection.execute(select(media.c.media_id)).scalars()) == ["good"]
        problems = installation_health(connection, now=NOON, sources=["default"]).problems
        record = media_view.find(connection, "default", "invalid:10a5fa36****")
    assert "4 dead letters; list them with: vodsync failures list" in problems
    assert record is not None
    assert [row["event_type"] for row in record["notifications"]] == ["VideoAnalysisComplete"]


def test_an_invalid_id_that_is_retried_is_a_dead_letter_again(store: Store) -> None:
    vod = FakeVod()
    notify(store, "10a5fa36****")
    sync(store, vod)
    store.transact(lambda connection: DeadLetters(connection).retry(DeadLetterFilter(), now=NOON))

    result = sync(store, vod)

    assert (result.claimed, result.dead_lettered, vod.calls) == (1, 1, [])
