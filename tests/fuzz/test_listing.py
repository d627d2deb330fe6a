"""Any page of a listing is read without an error, and an odd value hides no other row."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from tests.fuzz import mutations, samples
from tests.fuzz.answer_values import Number, parse
from tests.fuzz.budget import share
from tests.fuzz.notification_rules import is_deep, is_id, is_storable
from worker.core.errors import VodUnreadableError
from worker.core.listing import keep_application, read_page
from worker.vod import json_answers


def decode_or_none(body: bytes) -> dict[str, Any] | None:
    """Return the decoded answer, or None if it is unreadable. Any other exception is a fault."""
    try:
        return json_answers.decode("SearchMedia", body)
    except VodUnreadableError:
        return None


def sent_ids(body: bytes) -> list[str]:
    """Return the ids of the rows that name one in MediaId."""
    document = parse(body)
    rows = document.get("MediaList") if isinstance(document, dict) else None
    ids = [row.get("MediaId") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [str(media_id) for media_id in ids if is_id(media_id) and not isinstance(media_id, Number)]


@share(0.5)
@given(mutations.messages(samples.PAGES))
def test_any_page_is_read_and_no_row_with_an_id_is_lost(body: bytes) -> None:
    answer = decode_or_none(body)
    if answer is None:
        return
    before = repr(answer)

    page = read_page(answer)
    kept = keep_application("app-1000000", answer)

    assert repr(answer) == before
    rows = answer.get("MediaList")
    assert page.length == (len(rows) if isinstance(rows, list) else 0)
    assert read_page(kept).length == page.length
    ids = [row.media_id for row in page.rows]
    assert all(map(is_id, ids))
    assert is_deep(body) or {*sent_ids(body)} <= {*ids}
    times = [time for row in page.rows for time in (row.created_at, row.modified_at) if time is not None]
    assert all(time.utcoffset() is not None and time.year >= 1000 for time in times)
    assert page.total is None or page.total >= 0
    assert page.token is None or is_storable(page.token)
