"""The emulator delivers notifications as VOD does: signed, with at most three attempts, without redirects."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from worker.emulator.server.config import EmulatorConfig
from worker.emulator.server.server import running

KEY = "Demo1Key"


class Receiver(ThreadingHTTPServer):
    """Records the requests, and answers with `statuses` in turn, then with 200."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses: list[int] = []
        self.delay = 0.0
        self.received: list[tuple[float, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/callbacks?env=test"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.received]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append((time.monotonic(), headers, body))
        time.sleep(self.server.delay)
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 200)
        self.send_header("location", "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever)
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()


@contextmanager
def emulator(callback_url: str, **settings: Any) -> Iterator[httpx.Client]:
    config = EmulatorConfig(port=0, callback_url=callback_url, callback_key=KEY, **({"life_seconds": 0} | settings))
    with running(config) as url, httpx.Client(base_url=f"{url}/emulator") as control:
        yield control


def upload(control: httpx.Client, count: int, **options: Any) -> list[str]:
    ids: list[str] = control.post("/uploads", json={"count": count, **options}).json()["media_ids"]
    return ids


def wait_until_delivered(control: httpx.Client, *, within: float = 15) -> dict[str, Any]:
    """Return the counters once nothing is pending."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        deliveries: dict[str, Any] = control.get("/deliveries").json()
        if not deliveries["pending"]:
            return deliveries
        time.sleep(0.02)
    raise AssertionError(f"still pending: {deliveries}")


def id_of(event: dict[str, Any]) -> str:
    return str(event.get("VideoId") or event["MediaId"])


def test_every_upload_is_notified_in_order_and_signed(receiver: Receiver) -> None:
    with emulator(receiver.url) as control:
        ids = upload(control, 30)
        deliveries = wait_until_delivered(control)

    assert deliveries["delivered"] == deliveries["events"] == deliveries["attempts"] == len(receiver.received)
    assert deliveries["dropped"] == 0
    event_types = {media_id: [event["EventType"] for event in receiver.events() if id_of(event) == media_id] for media_id in ids}
    for types in event_types.values():
        assert types[:3] == ["MediaBaseChangeComplete", "FileUploadComplete", "VideoAnalysisComplete"]
    assert max(map(len, event_types.values())) >= 6
    for _, headers, _ in receiver.received:
        expected = hashlib.md5(f"{receiver.url}|{headers['x-vod-timestamp']}|{KEY}".encode()).hexdigest()
        assert headers["x-vod-signature"] == expected
        assert abs(int(headers["x-vod-timestamp"]) - time.time()) < 30
        assert headers["user-agent"].startswith("Apache-HttpClient")
        assert headers["content-type"] == "application/json"
        assert "transfer-encoding" not in headers


def test_an_upload_passes_its_states_in_the_configured_time(receiver: Receiver) -> None:
    with emulator(receiver.url, life_seconds=0.6) as control:
        [media_id] = upload(control, 1)
        before = control.get(f"/media/{media_id}").json()
        wait_until_delivered(control)
        after = control.get(f"/media/{media_id}").json()

    times = [at for at, _, _ in receiver.received]
    assert 0.3 < times[-1] - times[0] < 2
    assert before["MediaInfo"]["Status"] == "Uploading"
    assert after["MediaInfo"]["Status"] == "Normal"


def test_an_event_is_sent_three_times_with_the_same_body_and_then_dropped(receiver: Receiver) -> None:
    receiver.statuses = [503, 503, 503]
    with emulator(receiver.url) as control:
        upload(control, 1, damaged=True)
        deliveries = wait_until_delivered(control)

    assert deliveries == {
        "events": 3,
        "delivered": 2,
        "dropped": 1,
        "lost": 0,
        "attempts": 5,
        "pending": 0,
        "refused_by_status": {"503": 3},
    }
    first, second, third = receiver.received[:3]
    assert first[2] == second[2] == third[2] != receiver.received[3][2]
    assert second[0] - first[0] == pytest.approx(1, abs=0.3)
    assert third[0] - second[0] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("status", [201, 204, 302, 401])
def test_only_200_counts_as_delivered(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    with emulator(receiver.url, callback_pause=0) as control:
        upload(control, 1, damaged=True)
        deliveries = wait_until_delivered(control)

    assert deliveries["refused_by_status"] == {str(status): 1}
    assert (deliveries["delivered"], deliveries["attempts"], len(receiver.received)) == (3, 4, 4)


def test_an_event_for_a_slow_or_absent_receiver_is_sent_again(receiver: Receiver) -> None:
    receiver.delay = 0.5
    with emulator(receiver.url, callback_pause=0, callback_timeout=0.2) as control:
        upload(control, 1, damaged=True)
        slow = wait_until_delivered(control)
    with emulator("http://127.0.0.1:9/callbacks", callback_pause=0) as control:
        upload(control, 1, damaged=True)
        unreachable = wait_until_delivered(control)

    assert (slow["dropped"], slow["refused_by_status"]) == (3, {"timeout": 9})
    assert (unreachable["dropped"], unreachable["refused_by_status"]) == (3, {"unreachable": 9})


def test_an_absent_receiver_does_not_delay_other_events() -> None:
    with emulator("http://127.0.0.1:9/callbacks", callback_pause=0.3) as control:
        upload(control, 200, damaged=True)
        deliveries = wait_until_delivered(control, within=30)

    assert deliveries["dropped"] == 600


def test_changes_and_deletions_are_notified(receiver: Receiver) -> None:
    with emulator(receiver.url, media=3) as control:
        first, second, third = control.get("/media").json()["media_ids"]
        changed = control.post(f"/media/{first}/change", json={"Title": "Renamed"}).json()
        control.post(f"/media/{second}/delete")
        control.post(f"/media/{third}/delete", json={"DeleteType": "mezzanine"})
        wait_until_delivered(control)
        gone = control.get(f"/media/{second}")
        without_file = control.get(f"/media/{third}").json()

    sent = {(event["EventType"], id_of(event)): event for event in receiver.events()}
    assert json.loads(sent["MediaBaseChangeComplete", first]["MediaContent"]["Title"])["NewValue"] == "Renamed"
    assert changed["MediaInfo"]["Title"] == "Renamed"
    assert sent["DeleteMediaComplete", second]["DeleteType"] == "all"
    assert sent["MediaBaseChangeComplete", second]["OperateMode"] == "delete"
    assert sent["DeleteMediaComplete", third]["DeleteType"] == "mezzanine"
    assert gone.status_code == 404
    assert without_file["MezzanineInfo"]["Status"] == "Deleted"


def test_notifications_are_lost_or_not_sent_on_request(receiver: Receiver) -> None:
    with emulator(receiver.url) as control:
        control.put("/faults", json={"lost_notifications": {"next": 2}})
        upload(control, 1, damaged=True)
        upload(control, 5, notify=False)
        deliveries = wait_until_delivered(control)

    assert (deliveries["lost"], deliveries["delivered"], len(receiver.received)) == (2, 1, 1)


def test_assets_change_and_disappear_without_notifications_on_request(receiver: Receiver) -> None:
    with emulator(receiver.url, media=2) as control:
        first, second = control.get("/media").json()["media_ids"]
        changed = control.post(f"/media/{first}/change", json={"Title": "Renamed", "notify": False}).json()
        control.post(f"/media/{second}/delete", json={"notify": False})
        refused = control.post(f"/media/{first}/change", json={"Title": "Again", "notify": "no"})
        deliveries = wait_until_delivered(control)
        gone = control.get(f"/media/{second}")

    assert changed["MediaInfo"]["Title"] == "Renamed"
    assert gone.status_code == 404
    assert (refused.status_code, refused.json()["reason"]) == (400, "field")
    assert (deliveries["events"], receiver.received) == (0, [])


def test_without_a_callback_url_uploads_finish_without_notifications() -> None:
    with emulator("") as control:
        [media_id] = upload(control, 1)
        deliveries = wait_until_delivered(control)
        record = control.get(f"/media/{media_id}").json()

    assert deliveries["events"] == 0
    assert record["MediaInfo"]["Status"] == "Normal"
