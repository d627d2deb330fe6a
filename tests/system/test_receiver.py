"""Every answer of the receiver over real HTTP (DESIGN 2.2), and what it has written down by then."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import monotonic_clock
from tests.system.installation import CALLBACK_KEY, PAIRS, Installation, Pair, analysed, installed, signed
from tests.system.processes import eventually

OLD_KEY = "Sys7emTestCallbackKeyBefore"
STUDIO_KEY = "Sys7emTestCallbackKeyStudio"
STUDIO_URL = "https://studio.example.org/hooks/vod?env=prod"
LIMIT = 1024 * 1024

SOURCES = f"""
[sources.studio]
region = "cn-beijing"
access_key_id = "LTAI5tStudio"
access_key_secret = "Sys7emTestAccessKeySecretStudio"
callback_url = "{STUDIO_URL}"
callback_keys = "{STUDIO_KEY}"

[sources.open]
access_key_id = "LTAI5tOpen"
access_key_secret = "Sys7emTestAccessKeySecretOpen"
callback_unsigned = "accept"
"""


@pytest.fixture(scope="module", params=["sqlite-embedded", "postgresql-rabbitmq"])
def receiver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A receiver alone, with three sources and, for the first of them, two keys."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    (folder / "vodsync.toml").write_text(SOURCES)
    with installed(PAIRS[request.param], folder, VODSYNC_CALLBACK_KEYS=f"{CALLBACK_KEY}, {OLD_KEY}") as ready:
        ready.start("receiver", "serve")
        ready.wait_until_ready()
        yield ready


def news(**more: Any) -> dict[str, Any]:
    """A notification that nobody has sent before."""
    return analysed(f"media-{time.monotonic_ns()}", **more)


def post(receiver: Installation, content: bytes, headers: dict[str, str], path: str = "/callbacks") -> httpx.Response:
    return receiver.http.post(path, content=content, headers=headers)


def assert_refused(answer: httpx.Response, status: int, reason: str | None = None) -> None:
    body = answer.json()
    assert answer.status_code == status, body
    assert body.keys() == {"error", "reason"}
    assert answer.headers["content-type"] == "application/json"
    assert len(body["error"].split()) > 3, "the error is a sentence"
    assert re.fullmatch(r"[a-z_]+", body["reason"]), "the reason is one word"
    if reason:
        assert body["reason"] == reason


def stored(receiver: Installation, media_id: str) -> list[dict[str, Any]]:
    return receiver.database.rows("SELECT * FROM vod_notification WHERE media_id = :id", id=media_id)


# 200


def test_a_new_notification_is_stored_and_asks_for_a_fetch(receiver: Installation) -> None:
    said = news()

    answer = receiver.notify(said)

    assert (answer.status_code, answer.text) == (200, "ok")
    (row,) = stored(receiver, said["VideoId"])
    assert (row["source"], row["event_type"], row["status"], row["deliveries"]) == (
        "default",
        "VideoAnalysisComplete",
        "success",
        1,
    )
    assert json.loads(row["body"]) == said
    (due,) = receiver.database.rows("SELECT * FROM vod_sync_request WHERE media_id = :id", id=said["VideoId"])
    assert (due["source"], due["state"], due["generation"], due["attempts"]) == ("default", "due", 1, 0)


def test_a_repeated_notification_is_counted(receiver: Installation) -> None:
    said = news()
    # The same notification is the same whatever the order of its keys (vod-protocol 2.10).
    turned = dict(reversed(said.items()))

    answers = [receiver.notify(each) for each in (said, said, turned)]

    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "ok")] * 3
    assert [row["deliveries"] for row in stored(receiver, said["VideoId"])] == [3]


def test_headers_replayed_with_other_bodies_cost_one_look_up_for_each_id(receiver: Installation) -> None:
    said = news()
    headers = signed(json.dumps(said).encode(), url=receiver.callback_url)
    forged = [news(VideoId=said["VideoId"], EventTime=f"2026-01-01T00:00:{second:02}Z") for second in range(20)]
    others = [news() for _ in range(3)]

    answers = [post(receiver, json.dumps(each).encode(), headers) for each in (said, *forged, *others)]

    # The signature does not cover the body (vod-protocol 1.3): what a forger gains is a look-up, in the source's own rate.
    assert {answer.status_code for answer in answers} == {200}
    asked = receiver.database.rows("SELECT media_id FROM vod_sync_request WHERE media_id = :id", id=said["VideoId"])
    assert len(asked) == 1


def test_an_unknown_type_and_one_without_an_id_are_accepted(receiver: Installation) -> None:
    unknown = news(EventType="SomethingNewComplete")
    without = {"EventType": "UploadByURLComplete", "Status": "fail", "JobId": f"job-{time.monotonic_ns()}"}

    answers = [receiver.notify(unknown), receiver.notify(without), receiver.notify(b"{}")]

    assert [(answer.status_code, answer.text) for answer in answers] == [(200, "ok")] * 3
    assert [row["event_type"] for row in stored(receiver, unknown["VideoId"])] == ["SomethingNewComplete"]
    assert receiver.database.value("SELECT count(*) FROM vod_notification WHERE body LIKE :job", job=f"%{without['JobId']}%") == 1


@pytest.mark.parametrize("key", [CALLBACK_KEY, OLD_KEY])
def test_each_of_several_keys_is_accepted(receiver: Installation, key: str) -> None:
    assert receiver.notify(news(), key=key).status_code == 200


def test_each_source_has_its_own_path_keys_and_rows(receiver: Installation) -> None:
    said = news()
    content = json.dumps(said).encode()

    mine = post(receiver, content, signed(content, url=STUDIO_URL, key=STUDIO_KEY), "/callbacks/studio")
    foreign = receiver.notify(said, path="/callbacks/studio")
    by_name = receiver.notify(said, path="/callbacks/default")

    assert (mine.status_code, by_name.status_code) == (200, 200)
    assert_refused(foreign, 401, "signature")
    assert sorted(row["source"] for row in stored(receiver, said["VideoId"])) == ["default", "studio"]


def test_unsigned_callbacks_are_taken_where_that_is_wanted(receiver: Installation) -> None:
    said = news()

    answer = post(receiver, json.dumps(said).encode(), {}, "/callbacks/open")

    assert (answer.status_code, answer.text) == (200, "ok")
    assert [row["source"] for row in stored(receiver, said["VideoId"])] == ["open"]


@pytest.mark.parametrize(
    "oddity",
    [
        {"Title": '🎬 O\'Brien \\ "quoted"\n\t\u202e‮'},
        {"EventType": "X" * 500},
        {"EventType": "'); DROP TABLE vod_notification;--"},
        {"EventTime": "yesterday"},
        {"EventTime": "2025-11-24T16:00:01:540Z"},
        {"EventTime": "9999999-01-01T00:00:00Z"},
        {"Status": ["success"]},
        {"Extend": "\u0000 NUL"},
        {"EventType": "\u0000"},
        {"Extend": "\ud800 half a pair"},
        {"Nested": {"deep": [[[[[[[[[[1]]]]]]]]]]}},
    ],
    ids=lambda oddity: ascii(oddity)[:40],
)
def test_odd_notifications_are_stored_too(receiver: Installation, oddity: dict[str, Any]) -> None:
    said = news(**oddity)

    answer = receiver.notify(said)

    assert (answer.status_code, answer.text) == (200, "ok")
    assert len(stored(receiver, said["VideoId"])) == 1


@pytest.mark.parametrize("number", ["1e999", "-1e-999", "9" * 40, "9" * 5000, "0.1" + "0" * 5000])
def test_huge_numbers_are_stored_too(receiver: Installation, number: str) -> None:
    media_id = f"huge-{time.monotonic_ns()}"

    answer = receiver.notify(f'{{"EventType":"VideoAnalysisComplete","VideoId":"{media_id}","Size":{number}}}'.encode())

    assert (answer.status_code, answer.text) == (200, "ok")
    assert len(stored(receiver, media_id)) == 1


# 400, 401, 404, 405


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   ",
        b"null",
        b"17",
        b'"a string"',
        b"[]",
        b'[{"EventType":"VideoAnalysisComplete","VideoId":"a"}]',
        b"EventType=VideoAnalysisComplete&VideoId=a",
        b"<xml/>",
        b'{"EventType":"VideoAnalysisComplete"',
        b'{"EventType":"VideoAnalysisComplete"} trailing',
        b"{'EventType':'VideoAnalysisComplete'}",
        b'{"EventType":"\xff\xfe"}',
        b'{"EventType":"\x00"}',
        b"\x00",
        b'{"Size":NaN}',
        b'{"Size":Infinity}',
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"[" * 500_000,
        '{"EventType":"VideoAnalysisComplete"}'.encode("utf-16"),
    ],
    ids=lambda content: ascii(content[:24]),
)
def test_what_is_no_json_object_is_refused(receiver: Installation, content: bytes) -> None:
    before = receiver.database.count("vod_notification")

    answer = receiver.notify(content)

    assert_refused(answer, 400, "malformed")
    assert receiver.database.count("vod_notification") == before


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"X-VOD-TIMESTAMP": None, "X-VOD-SIGNATURE": None}, "unsigned"),
        ({"X-VOD-TIMESTAMP": None}, "unsigned"),
        ({"X-VOD-SIGNATURE": None}, "unsigned"),
        ({"X-VOD-SIGNATURE": ""}, "unsigned"),
        ({"X-VOD-SIGNATURE": "0" * 32}, "signature"),
        ({"X-VOD-SIGNATURE": "not hexadecimal"}, "signature"),
        ({"X-VOD-SIGNATURE": "é" * 32}, "signature"),
        ({"X-VOD-SIGNATURE": "f" * 40_000}, "signature"),
        ({"X-VOD-TIMESTAMP": "1"}, "signature"),
        ({"X-VOD-TIMESTAMP": "now"}, "signature"),
        ({"X-VOD-TIMESTAMP": "-1"}, "signature"),
        ({"X-VOD-TIMESTAMP": "1e9"}, "signature"),
        ({"X-VOD-TIMESTAMP": "9" * 5000}, "signature"),
        ({"X-VOD-TIMESTAMP": "١٧٦٤٠٠٠٠٠٠"}, "signature"),
    ],
    ids=lambda value: ascii(value)[:50] if isinstance(value, dict) else None,
)
def test_forged_headers_are_refused(receiver: Installation, headers: dict[str, str | None], reason: str) -> None:
    said = news()
    content = json.dumps(said).encode()
    forged = signed(content, url=receiver.callback_url) | headers
    raw = [(name, value.encode()) for name, value in forged.items() if value is not None]

    answer = receiver.http.post("/callbacks", content=content, headers=raw)

    assert_refused(answer, 401, reason)
    assert stored(receiver, said["VideoId"]) == []


@pytest.mark.parametrize("skew", [-301, 302, -86_400 * 365, 10**9])
def test_stale_and_future_signatures_are_refused(receiver: Installation, skew: float) -> None:
    said = news()

    answer = receiver.notify(said, at=time.time() + skew)

    assert_refused(answer, 401, "stale")
    assert stored(receiver, said["VideoId"]) == []


@pytest.mark.parametrize("skew", [-295, 295])
def test_a_little_skew_is_tolerated(receiver: Installation, skew: float) -> None:
    assert receiver.notify(news(), at=time.time() + skew).status_code == 200


def test_a_signature_for_another_url_or_key_is_refused(receiver: Installation) -> None:
    content = json.dumps(news()).encode()

    elsewhere = post(receiver, content, signed(content, url=receiver.callback_url + "/"))
    other_key = post(receiver, content, signed(content, url=receiver.callback_url, key=STUDIO_KEY))
    no_key = post(receiver, content, signed(content, url=receiver.callback_url, key=""))

    for answer in (elsewhere, other_key, no_key):
        assert_refused(answer, 401, "signature")


def test_an_upper_case_signature_counts(receiver: Installation) -> None:
    content = json.dumps(news()).encode()
    headers = signed(content, url=receiver.callback_url)

    answer = post(receiver, content, headers | {"X-VOD-SIGNATURE": headers["X-VOD-SIGNATURE"].upper()})

    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["nobody", "Studio", "%00", "..%2fdefault", "é"])
def test_an_unknown_source_is_refused(receiver: Installation, name: str) -> None:
    assert_refused(receiver.notify(news(), path=f"/callbacks/{name}"), 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/", 404),
        ("POST", "/callbacks/", 404),
        ("POST", "/callbacks/a/b", 404),
        ("GET", "/callbacks", 405),
        ("PUT", "/callbacks", 405),
        ("DELETE", "/callbacks/studio", 405),
        ("POST", "/livez", 405),
    ],
)
def test_other_paths_and_methods_are_refused_in_the_same_shape(receiver: Installation, method: str, path: str, status: int) -> None:
    answer = receiver.http.request(method, path, follow_redirects=False)

    assert_refused(answer, status)
    assert ("allow" in answer.headers) == (status == 405)


# 413


def notification_of(size: int) -> bytes:
    head = json.dumps(news(Filler=""))[:-2].encode()
    return head + b"x" * (size - len(head) - 2) + b'"}'


def test_one_mebibyte_passes(receiver: Installation) -> None:
    content = notification_of(LIMIT)

    whole = receiver.notify(content)
    chunked = exchange(receiver, content, chunked=True)

    assert (whole.status_code, whole.text) == (200, "ok")
    assert chunked[0] == 200
    assert [row["deliveries"] for row in stored(receiver, json.loads(content)["VideoId"])] == [2]


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize("size", [LIMIT + 1, 8 * LIMIT])
def test_a_larger_body_is_refused_and_the_sender_can_read_that(receiver: Installation, size: int, chunked: bool) -> None:
    before = receiver.database.count("vod_notification")

    status, body = exchange(receiver, notification_of(size), chunked=chunked)

    assert status == 413
    assert json.loads(body).keys() == {"error", "reason"}
    assert receiver.database.count("vod_notification") == before


def test_a_wrong_content_length_is_no_way_in(receiver: Installation) -> None:
    with connection(receiver) as wire:
        wire.sendall(b"POST /callbacks HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n{}")

        assert int(wire.recv(4096).split()[1]) in (400, 401, 413)


def test_a_sender_that_never_ends_is_sent_away(receiver: Installation) -> None:
    with connection(receiver) as wire:
        signature = signed(b"", url=receiver.callback_url)
        headers = "".join(f"{name}: {value}\r\n" for name, value in signature.items())
        wire.sendall(f"POST /callbacks HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: 100\r\n\r\n{{".encode())
        began = monotonic_clock.seconds()

        answer = wire.makefile("rb").read()

        assert answer.split()[1] == b"408"
        assert monotonic_clock.seconds() - began < 8
        assert b"slow" in answer


def exchange(receiver: Installation, content: bytes, *, chunked: bool) -> tuple[int, bytes]:
    """Send like a simple client: everything first, then read. Gives status and body."""
    headers = signed(content, url=receiver.callback_url)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(content)}"
    lines = ["POST /callbacks HTTP/1.1", "Host: a", length, *(f"{name}: {value}" for name, value in headers.items())]
    with connection(receiver) as wire:
        wire.sendall("\r\n".join([*lines, "", ""]).encode())
        if chunked:
            for start in range(0, len(content), 65_536):
                part = content[start : start + 65_536]
                wire.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            wire.sendall(b"0\r\n\r\n")
        else:
            wire.sendall(content)
        answer = wire.makefile("rb")
        status = int(answer.readline().split()[1])
        length = 0
        while line := answer.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, answer.read(length)


def connection(receiver: Installation) -> socket.socket:
    return socket.create_connection(("127.0.0.1", receiver.port), timeout=10)


# Health


def test_livez_readyz_and_statusz_tell_how_it_is(receiver: Installation) -> None:
    receiver.notify(analysed("due"))
    eventually(
        lambda: receiver.http.get("/statusz").json()["oldest_due_age_seconds"],
        within=5,
        missing="a request that is due for a while",
    )
    livez, readyz, statusz = (receiver.http.get(path) for path in ("/livez", "/readyz", "/statusz"))

    assert (livez.status_code, readyz.status_code, statusz.status_code) == (200, 200, 200)
    states = {name: part["state"] for name, part in readyz.json()["parts"].items()}
    assert (states["database"], states["schema"], states["broker"]) == ("ok", "ok", "ok")
    status = statusz.json()
    assert status.keys() >= {"version", "schema", "backlog", "oldest_due_age_seconds", "dead_letters", "broker", "workers"}
    assert status["schema"]["revision"] == status["schema"]["expected"]
    assert status["backlog"]["due"] == receiver.database.count("vod_sync_request")
    assert status["oldest_due_age_seconds"] > 0
    assert (status["dead_letters"], status["workers"]) == (0, [])


def test_callbacks_that_are_all_refused_are_a_problem_until_one_is_taken(receiver: Installation) -> None:
    def problems() -> list[str]:
        return [each for each in receiver.http.get("/statusz").json()["problems"] if "to source default" in each]

    receiver.notify(analysed("before"))
    before = problems()
    refused = [receiver.notify(analysed("x"), key="AnotherKey").status_code for _ in range(2)]
    meanwhile = problems()
    taken = receiver.notify(analysed("after"))

    assert (refused, taken.status_code) == ([401, 401], 200)
    assert (before, problems()) == ([], [])
    (sentence,) = meanwhile
    assert sentence.startswith("2 callbacks to source default refused since")
    assert "(signature)" in sentence
    assert "VODSYNC_CALLBACK_KEYS" in sentence


def test_a_lost_schema_is_not_ready_and_says_what_to_run(receiver: Installation) -> None:
    version = receiver.database.value("SELECT version_num FROM vod_schema_version")
    receiver.database.do("ALTER TABLE vod_schema_version RENAME TO vod_schema_version_away")

    lost = receiver.http.get("/readyz")
    receiver.database.do("ALTER TABLE vod_schema_version_away RENAME TO vod_schema_version")
    receiver.database.do("UPDATE vod_schema_version SET version_num = '0001'")
    stale = receiver.http.get("/readyz")
    receiver.database.do(f"UPDATE vod_schema_version SET version_num = '{version}'")

    for answer in (lost, stale):
        assert answer.status_code == 503
        assert answer.json()["reason"] == "schema"
        assert "vodsync migrate" in answer.json()["error"]
    assert receiver.http.get("/livez").status_code == 200
    assert receiver.http.get("/readyz").status_code == 200


# Stopping


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_stop_under_load_answers_what_it_accepted(tmp_path: Path, processes: str) -> None:
    with installed(Pair(None, None), tmp_path) as ready:
        receiver = ready.start("receiver", "serve", "--workers", processes)
        ready.wait_until_ready()
        answered: set[str] = set()
        other: list[int] = []

        def send(number: int) -> None:
            with httpx.Client(base_url=ready.url, timeout=10, trust_env=False) as client:
                for count in range(100_000):
                    said = analysed(f"stop-{number}-{count}")
                    content = json.dumps(said).encode()
                    try:
                        answer = client.post("/callbacks", content=content, headers=signed(content, url=ready.callback_url))
                    except httpx.TransportError:
                        return
                    if answer.status_code != 200:
                        other.append(answer.status_code)
                        return
                    answered.add(said["VideoId"])

        senders = [threading.Thread(target=send, args=(number,)) for number in range(16)]
        for sender in senders:
            sender.start()
        eventually(lambda: len(answered) > 200, within=10, missing=lambda: f"200 accepted notifications, not {len(answered)}")
        receiver.terminate()
        code = receiver.wait(within=15)
        for sender in senders:
            sender.join(15)

        assert code == 0
        assert other == []
        assert {row["media_id"] for row in ready.database.table("vod_notification")} == answered
        assert ready.database.count("vod_sync_request") == len(answered)
