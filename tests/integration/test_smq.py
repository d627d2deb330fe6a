"""Our queue client against the emulated queue, which shares nothing with it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests import monotonic_clock
from worker.core import events
from worker.core.errors import VodCredentialsError, VodRefusedError, VodUnavailableError
from worker.emulator.server.config import EmulatorConfig
from worker.emulator.server.server import running
from worker.settings import Source
from worker.vod import credentials
from worker.vod.smq import Queue
from worker.vod.smq_xml import Message

NAME = "vod-events"


class Desk:
    """An emulator with a queue, and clients of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.control = httpx.Client(base_url=f"{url}/emulator", trust_env=False)
        self._opened: list[Queue] = []

    def queue(self, **settings: str) -> Queue:
        known = {"access_key_id": "demoKeyId", "access_key_secret": "demoSecret", "smq_endpoint": self.url, "smq_queue": NAME}
        self._opened.append(Queue(Source.model_validate(known | settings)))
        return self._opened[-1]

    def write(self, *bodies: str) -> None:
        for body in bodies:
            self.control.post("/queue", content=body.encode()).raise_for_status()

    def break_(self, **faults: Any) -> None:
        self.control.put("/faults", json=faults).raise_for_status()

    def state(self) -> dict[str, int]:
        state: dict[str, int] = self.control.get("/queue").json()
        return state

    def close(self) -> None:
        for opened in (self.control, *self._opened):
            opened.close()


@contextmanager
def emulated(**settings: Any) -> Iterator[Desk]:
    config = EmulatorConfig(port=0, smq_queue=NAME, **({"smq_visibility": 1.0, "life_seconds": 0} | settings))
    with running(config) as url:
        desk = Desk(url)
        yield desk
        desk.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    with emulated() as desk:
        yield desk


def receipts(messages: list[Message]) -> list[str]:
    return [message.receipt or "" for message in messages]


def bodies(messages: list[Message]) -> list[str]:
    return [message.body for message in messages]


# Receive and delete


def test_what_is_written_is_received_once_and_gone_when_deleted(desk: Desk) -> None:
    written = ['{"Title": "<新标题> & 🎬"}', "second"]
    desk.write(*written)
    queue = desk.queue()

    received = queue.receive(wait=0)
    deleted = queue.delete(receipts(received))

    assert bodies(received) == written
    assert [(message.intact, message.dequeue_count) for message in received] == [(True, 1)] * 2
    assert deleted == 2
    assert desk.state() == {"visible": 0, "invisible": 0, "written": 2, "received": 2, "deleted": 2, "void_receipts": 0}


def test_sixteen_at_most_come_in_one_call(desk: Desk) -> None:
    desk.write(*map(str, range(20)))
    queue = desk.queue()

    assert [len(queue.receive(wait=0)) for _ in range(3)] == [16, 4, 0]


def test_what_is_not_deleted_comes_back_and_counts(desk: Desk) -> None:
    desk.write("a")
    queue = desk.queue()

    first, second = queue.receive(wait=0), queue.receive(wait=5)

    assert [message.dequeue_count for message in first + second] == [1, 2]
    assert first[0].receipt != second[0].receipt


def test_the_queue_takes_one_receipt_in_the_address_and_several_in_a_body(desk: Desk) -> None:
    queue = desk.queue()
    desk.write("a", "b", "c")
    first, *others = receipts(queue.receive(wait=0))

    assert queue._call("DELETE", {"ReceiptHandle": first}) == (204, b"")
    assert queue.delete(others) == 2
    assert desk.state()["deleted"] == 3


def test_a_queue_that_knows_only_one_receipt_at_a_time_is_emptied_too(desk: Desk) -> None:
    desk.break_(single_delete={"probability": 1})
    queue = desk.queue()
    desk.write("a", "b", "c")

    deleted = queue.delete(receipts(queue.receive(wait=0)))

    assert (deleted, desk.state()["deleted"]) == (3, 3)


def test_an_expired_receipt_is_no_error_and_no_failure_of_the_rest(desk: Desk) -> None:
    queue = desk.queue()
    desk.write("a")
    old = receipts(queue.receive(wait=0))
    again = receipts(queue.receive(wait=5))
    desk.write("b")
    fresh = receipts(queue.receive(wait=5))

    assert queue.delete(old) == 0
    assert queue.delete(old + again + fresh) == 2
    assert desk.state()["visible"] + desk.state()["invisible"] == 0


def test_an_empty_queue_waits_and_gives_nothing(desk: Desk) -> None:
    began = time.monotonic()

    received = desk.queue().receive(wait=1)

    assert received == []
    assert time.monotonic() - began > 0.9


def test_a_message_ends_the_wait(desk: Desk) -> None:
    threading.Timer(0.3, desk.write, ["late"]).start()
    began = monotonic_clock.seconds()

    received = desk.queue().receive(wait=20)

    assert bodies(received) == ["late"]
    assert monotonic_clock.seconds() - began < 5


def test_a_404_that_comes_early_is_an_empty_answer(desk: Desk) -> None:
    desk.break_(early_404={"next": 1})
    began = monotonic_clock.seconds()

    assert desk.queue().receive(wait=20) == []
    assert monotonic_clock.seconds() - began < 5


def test_a_look_takes_nothing(desk: Desk) -> None:
    queue = desk.queue()

    before = queue.check()
    desk.write("a", "b")

    assert (before, queue.check(), queue.check()) == (0, 2, 2)
    assert desk.state()["visible"] == 2


# Stop


@pytest.mark.parametrize("after", [0.0, 0.5], ids=["at once", "in the middle"])
def test_a_long_poll_can_be_broken_off_and_what_came_can_still_be_deleted(after: float) -> None:
    with emulated(smq_visibility=60.0) as desk:
        queue = desk.queue()
        desk.write("a")
        taken = receipts(queue.receive(wait=0))
        threading.Timer(after, queue.interrupt).start()
        began = monotonic_clock.seconds()

        received = queue.receive(wait=20)

        assert monotonic_clock.seconds() - began < 3
        assert received == queue.receive(wait=20) == []
        assert queue.delete(taken) == 1


# What goes wrong


@pytest.mark.parametrize("fault", ["reset", "halfway", "truncated", "garbage", "html", "http_500", "service_unavailable"])
def test_an_answer_that_does_not_come_is_worth_asking_for_again(desk: Desk, fault: str) -> None:
    queue = desk.queue()
    desk.write("a")
    desk.break_(**{fault: {"next": 1}})

    with pytest.raises(VodUnavailableError):
        queue.receive(wait=0)

    assert bodies(queue.receive(wait=5)) == ["a"]


def test_nobody_listens() -> None:
    source = Source.model_validate(
        {"access_key_id": "id", "access_key_secret": "s", "smq_endpoint": "http://127.0.0.1:9", "smq_queue": NAME}
    )

    with pytest.raises(VodUnavailableError, match="no answer"):
        Queue(source).receive(wait=0)


@pytest.mark.parametrize(
    ("settings", "kind", "code"),
    [
        ({"access_key_secret": "wrong"}, VodCredentialsError, "SignatureDoesNotMatch"),
        ({"access_key_id": "wrong"}, VodCredentialsError, "InvalidAccessKeyId"),
        ({"security_token": "sts"}, VodCredentialsError, "AccessDenied"),
        ({"smq_queue": "another"}, VodRefusedError, "QueueNotExist"),
    ],
)
def test_wrong_settings_are_named(desk: Desk, settings: dict[str, str], kind: type[Exception], code: str) -> None:
    with pytest.raises(kind) as refused:
        desk.queue(**settings).receive(wait=0)

    assert refused.value.code == code
    assert refused.value.request_id
    assert "demoSecret" not in str(refused.value)


def test_rights_that_are_missing_for_deleting_are_named(desk: Desk) -> None:
    queue = desk.queue()
    desk.write("a")
    taken = receipts(queue.receive(wait=0))
    desk.break_(credentials={"next": 1, "operation": "DeleteMessage", "code": "AccessDenied"})

    with pytest.raises(VodCredentialsError, match="mns:DeleteMessage"):
        queue.delete(taken)


def test_keys_of_the_vendors_chain_are_asked_for_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    current = SimpleNamespace(access_key_id="demoKeyId", access_key_secret="demoSecret", security_token="first")
    asked = []

    class Chain:
        def get_credential(self) -> SimpleNamespace:
            asked.append(current.security_token)
            return current

    monkeypatch.setattr(credentials, "CredentialChain", Chain)
    with emulated(security_token="second") as desk:
        queue = Queue(Source.model_validate({"smq_endpoint": desk.url, "smq_queue": NAME}))
        with pytest.raises(VodCredentialsError):
            queue.receive(wait=0)
        current.security_token = "second"

        assert queue.receive(wait=0) == []
        queue.close()
    assert asked == ["first", "second"]


def test_a_chain_without_keys_is_worth_asking_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chain:
        def get_credential(self) -> None:
            raise OSError("no metadata server")

    monkeypatch.setattr(credentials, "CredentialChain", Chain)

    with pytest.raises(VodUnavailableError, match="credential chain"):
        Queue(Source.model_validate({"smq_endpoint": "http://127.0.0.1:9", "smq_queue": NAME})).receive(wait=0)


# What VOD writes


def settled(desk: Desk) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (deliveries := desk.control.get("/deliveries").json())["pending"]:
        assert time.monotonic() < deadline, deliveries
        time.sleep(0.02)
    return dict(deliveries)


def everything(queue: Queue) -> list[Message]:
    found = []
    while received := queue.receive(wait=0):
        found += received
    return found


def test_the_events_of_an_upload_come_through_the_queue_in_both_forms(desk: Desk) -> None:
    media_ids = desk.control.post("/uploads", json={"count": 10}).json()["media_ids"]
    deliveries = settled(desk)

    received = everything(desk.queue())
    told = [events.parse_queued(message.body) for message in received]

    assert len(received) == deliveries["delivered"] == deliveries["attempts"]
    assert {notification.media_ids[0] for notification in told} == set(media_ids)
    assert {message.body[0] == "{" for message in received} == {True, False}


def test_without_quirks_the_queue_holds_plain_json() -> None:
    with emulated(quirks=False) as desk:
        desk.control.post("/uploads", json={"count": 3})
        settled(desk)

        received = everything(desk.queue())

    assert received
    assert all("EventType" in json.loads(message.body) for message in received)


def test_an_event_that_the_queue_does_not_take_three_times_is_dropped() -> None:
    with emulated(callback_pause=0.05) as desk:
        desk.break_(unwritable_queue={"next": 4})
        desk.control.post("/uploads", json={"count": 1})
        deliveries = settled(desk)

        received = everything(desk.queue())

    assert (deliveries["dropped"], deliveries["refused_by_status"]) == (1, {"unwritable": 4})
    assert deliveries["delivered"] == len(received) == deliveries["events"] - 1
