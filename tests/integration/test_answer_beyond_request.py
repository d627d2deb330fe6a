"""An answer with assets that were not requested, on each of the three databases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from tests.builders import NOON, SECOND, element, notify, source_context
from worker.store import Store
from worker.store.tables import media, sync_request
from worker.sync.batch import sync_batch
from worker.sync.source_context import SyncSettings
from worker.vod.testing import FakeVod

SETTINGS = SyncSettings(calls_per_second=1000)


class TalkativeVod(FakeVod):
    """Adds `extra` ids to its answers."""

    extra: dict[str, list[Any]]

    def batch_get_media_infos(self, media_ids: Sequence[str], reference_ids: Sequence[str] = ()) -> dict[str, Any]:
        answer = super().batch_get_media_infos(media_ids, reference_ids)
        return answer | {name: answer[name] + added for name, added in self.extra.items()}


def test_ids_that_were_not_requested_change_no_row(store: Store) -> None:
    vod = TalkativeVod()
    vod.put(element("asked"), element("stored"))
    vod.extra = {}
    notify(store, "stored")
    sync_batch(store, source_context(vod, SETTINGS), now=NOON + SECOND)
    vod.extra = {
        "NonExistMediaIds": ["stored", "stranger-1"],
        "ForbiddenMediaIds": ["stored", "stranger-2"],
        "MediaInfos": [element("stranger-3")],
    }
    notify(store, "asked", "unknown")

    result = sync_batch(store, source_context(vod, SETTINGS), now=NOON + 2 * SECOND)

    assert (result.saved, result.missing, result.forbidden, result.dead_lettered) == (1, 1, 0, 0)
    with store.reading() as connection:
        states = {row.media_id: row.state for row in connection.execute(select(media))}
        waiting = list(connection.execute(select(sync_request.c.media_id)).scalars())
    assert states == {"asked": "ok", "stored": "ok", "unknown": "missing"}
    assert waiting == ["unknown"]
