"""Any body becomes a notification that can be stored, or is malformed."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import json_documents, mutations, samples
from tests.fuzz.budget import share
from tests.fuzz.json_documents import Layout, Token, pick, write
from tests.fuzz.notification_rules import (
    content,
    is_deep,
    is_id,
    is_storable,
    may_lose_meaning,
    meaning,
    parse_or_none,
    should_be_accepted,
    wrong_readings,
)
from worker.core import events
from worker.core.events import Notification
from worker.core.ids import is_invalid_key
from worker.core.media import ID_LENGTH

MAX_PARSING_TIME = 1.0  # seconds of CPU time

Object = dict[str, Any]

bodies = mutations.messages([*samples.NOTIFICATIONS, *samples.UNUSUAL_NOTIFICATIONS])

#: Bodies in which a pattern with repetitions inside repetitions takes long.
repetitive_bodies = st.builds(
    lambda pieces, tail: b'{"VideoId":"a","x":"' + b"".join(pieces) * 20_000 + tail + b'"}',
    st.lists(
        st.sampled_from((b"\\\\", b"\\\\", b"\\\\", b"&", b"?", b"&amp;", b"\\u0026", b"?auth_key=", b"&Expires=1", b".", b"=")),
        min_size=1,
        max_size=2,
    ),
    st.sampled_from((b"auth_key=1", b"\\u003fSignature=1", b"?Expires=1!")),
)
objects = mutations.changed([msgspec.json.decode(sample) for sample in samples.NOTIFICATIONS]).filter(
    lambda value: isinstance(value, dict)
)


@given(bodies)
def test_exactly_the_json_objects_become_notifications_that_can_be_stored(body: bytes) -> None:
    expected = should_be_accepted(body)
    before = time.process_time()

    notification = parse_or_none(body)

    assert time.process_time() - before < MAX_PARSING_TIME
    assert expected is None or expected == (notification is not None)
    assert parse_or_none(body) == notification
    if notification is not None:
        check_columns(notification)
        check_stored_body(body, notification)
        assert is_deep(body) or wrong_readings(body, notification) == []


@share(0.03)
@given(repetitive_bodies)
def test_no_body_takes_long_to_parse(body: bytes) -> None:
    before = time.process_time()

    events.parse(body)

    assert time.process_time() - before < MAX_PARSING_TIME


def check_columns(notification: Notification) -> None:
    assert len(notification.event_type) <= events.MAX_EVENT_TYPE_LENGTH
    assert len(notification.status or "") <= events.MAX_STATUS_LENGTH
    assert is_storable(notification.event_type + (notification.status or ""))
    assert all(is_id(key) or is_invalid_key(key) for key in notification.media_ids)
    assert all(key.isascii() and key.isprintable() and "," not in key for key in notification.media_ids)
    assert max(map(len, notification.media_ids), default=0) <= 2 * ID_LENGTH
    assert len(notification.media_ids) <= events.MAX_MEDIA_IDS
    # MySQL's first year.
    assert notification.event_time is None or notification.event_time.year >= 1000


def check_stored_body(body: bytes, notification: Notification) -> None:
    """Deletions are read from the stored body later."""
    assert is_storable(notification.body)
    stored = parse_or_none(notification.body.encode())
    assert stored is not None
    assert may_lose_meaning(body) or meaning(stored) == meaning(notification)


@st.composite
def similar_objects(draw: st.DrawFn) -> tuple[Object, Object]:
    """Draw two notifications that are equal or differ in one field, because most differences are small."""
    one, other = draw(objects), draw(objects)
    name = draw(st.sampled_from([*one, *other, "Extend"]))
    if draw(st.booleans()):
        values = pick(draw(pick(json_documents.SIMILAR_TOKENS))).map(Token)
        return one | {name: draw(values)}, one | {name: draw(values)}
    return one, one | {name: other.get(name, one.get(name))}


@given(similar_objects(), json_documents.layouts, json_documents.layouts)
def test_event_keys_differ_if_and_only_if_the_contents_differ(
    objects: tuple[Object, Object], layout: Layout, other_layout: Layout
) -> None:
    bodies = write(objects[0], layout), write(objects[1], other_layout)

    notifications = [parse_or_none(body) for body in bodies]

    if None not in notifications and not any(map(is_deep, bodies)):
        event_keys = {notification.event_key for notification in notifications if notification is not None}
        assert len(event_keys) == len({content(body) for body in bodies})
