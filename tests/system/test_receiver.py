"""Requests that the receiver refuses, its health endpoints and its stop, over real HTTP (docs/contract.md)."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests import monotonic_clock
from tests.system.callbacks import LIMIT, STUDIO_KEY, assert_refused, new_notification, post, stored
from tests.system.installation import Installation, Pair, analysed, installed, signed
from tests.system.processes import eventually

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
def test_body_that_is_not_a_json_object_is_refused(receiver: Installation, content: bytes) -> None:
    before = receiver.database.count("vod_notification")

    response = receiver.notify(content)

    assert_refused(response, 400, "malformed")
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
    notification = new_notification()
    content = json.dumps(notification).encode()
    forged = signed(content, url=receiver.callback_url) | headers
    encoded = [(name.encode(), value.encode()) for name, value in forged.items() if value is not None]

    response = receiver.http.post("/callbacks", content=content, headers=encoded)

    assert_refused(response, 401, reason)
    assert stored(receiver, notification["VideoId"]) == []


@pytest.mark.parametrize("skew", [-301, 302, -86_400 * 365, 10**9])
def test_stale_and_future_signatures_are_refused(receiver: Installation, skew: float) -> None:
    notification = new_notification()

    response = receiver.notify(notification, at=time.time() + skew)

    assert_refused(response, 401, "stale")
    assert stored(receiver, notification["VideoId"]) == []


@pytest.mark.parametrize("skew", [-295, 295])
def test_small_clock_skew_is_accepted(receiver: Installation, skew: float) -> None:
    assert receiver.notify(new_notification(), at=time.time() + skew).status_code == 200


def test_signature_for_another_url_or_key_is_refused(receiver: Installation) -> None:
    content = json.dumps(new_notification()).encode()

    elsewhere = post(receiver, content, signed(content, url=receiver.callback_url + "/"))
    other_key = post(receiver, content, signed(content, url=receiver.callback_url, key=STUDIO_KEY))
    no_key = post(receiver, content, signed(content, url=receiver.callback_url, key=""))

    for response in (elsewhere, other_key, no_key):
        assert_refused(response, 401, "signature")


def test_upper_case_signature_is_accepted(receiver: Installation) -> None:
    content = json.dumps(new_notification()).encode()
    headers = signed(content, url=receiver.callback_url)

    response = post(receiver, content, headers | {"X-VOD-SIGNATURE": headers["X-VOD-SIGNATURE"].upper()})

    assert response.status_code == 200


@pytest.mark.parametrize("name", ["nobody", "Studio", "%00", "..%2fdefault", "é"])
def test_unknown_source_is_refused(receiver: Installation, name: str) -> None:
    assert_refused(receiver.notify(new_notification(), path=f"/callbacks/{name}"), 404)


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
def test_other_paths_and_methods_are_refused_with_the_same_json(
    receiver: Installation, method: str, path: str, status: int
) -> None:
    response = receiver.http.request(method, path, follow_redirects=False)

    assert_refused(response, status)
    assert ("allow" in response.headers) == (status == 405)


# 413


def notification_of(size: int) -> bytes:
    head = json.dumps(new_notification(Filler=""))[:-2].encode()
    return head + b"x" * (size - len(head) - 2) + b'"}'


def test_body_of_one_mebibyte_is_accepted(receiver: Installation) -> None:
    content = notification_of(LIMIT)

    with_length = receiver.notify(content)
    chunked = exchange(receiver, content, chunked=True)

    assert (with_length.status_code, with_length.text) == (200, "ok")
    assert chunked[0] == 200
    assert [row["deliveries"] for row in stored(receiver, json.loads(content)["VideoId"])] == [2]


@pytest.mark.parametrize("chunked", [False, True], ids=["content-length", "chunked"])
@pytest.mark.parametrize("size", [LIMIT + 1, 8 * LIMIT])
def test_larger_body_is_refused_and_the_sender_can_read_the_response(receiver: Installation, size: int, chunked: bool) -> None:
    before = receiver.database.count("vod_notification")

    status, body = exchange(receiver, notification_of(size), chunked=chunked)

    assert status == 413
    assert json.loads(body).keys() == {"error", "reason"}
    assert receiver.database.count("vod_notification") == before


def test_huge_content_length_is_refused(receiver: Installation) -> None:
    with connect(receiver) as connection:
        connection.sendall(b"POST /callbacks HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n{}")

        assert int(connection.recv(4096).split()[1]) in (400, 401, 413)


def test_request_that_never_ends_is_answered_with_408(receiver: Installation) -> None:
    with connect(receiver) as connection:
        signature = signed(b"", url=receiver.callback_url)
        headers = "".join(f"{name}: {value}\r\n" for name, value in signature.items())
        connection.sendall(f"POST /callbacks HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: 100\r\n\r\n{{".encode())
        started = monotonic_clock.seconds()

        response = connection.makefile("rb").read()

        assert response.split()[1] == b"408"
        assert monotonic_clock.seconds() - started < 8
        assert b"slow" in response


def exchange(receiver: Installation, content: bytes, *, chunked: bool) -> tuple[int, bytes]:
    """Send the whole request before reading, as a simple client does. Returns status and body."""
    headers = signed(content, url=receiver.callback_url)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(content)}"
    lines = ["POST /callbacks HTTP/1.1", "Host: a", framing, *(f"{name}: {value}" for name, value in headers.items())]
    with connect(receiver) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        if chunked:
            for start in range(0, len(content), 65_536):
                chunk = content[start : start + 65_536]
                connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            connection.sendall(b"0\r\n\r\n")
        else:
            connection.sendall(content)
        reader = connection.makefile("rb")
        status = int(reader.readline().split()[1])
        length = 0
        while line := reader.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, reader.read(length)


def connect(receiver: Installation) -> socket.socket:
    return socket.create_connection(("127.0.0.1", receiver.port), timeout=10)


# Replayed headers


def test_replayed_headers_with_other_bodies_cost_one_fetch_per_id(receiver: Installation) -> None:
    notification = new_notification()
    headers = signed(json.dumps(notification).encode(), url=receiver.callback_url)
    forged = [new_notification(VideoId=notification["VideoId"], EventTime=f"2026-01-01T00:00:{second:02}Z") for second in range(20)]
    others = [new_notification() for _ in range(3)]

    responses = [post(receiver, json.dumps(body).encode(), headers) for body in (notification, *forged, *others)]

    # The signature does not cover the body (vod-protocol 1.3): a forged body causes at most one fetch per id, at the usual rate.
    assert {response.status_code for response in responses} == {200}
    requests = receiver.database.rows("SELECT media_id FROM vod_sync_request WHERE media_id = :id", id=notification["VideoId"])
    assert len(requests) == 1


# Health


def test_livez_readyz_and_statusz_report_the_state(receiver: Installation) -> None:
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


def test_refused_callbacks_are_a_problem_until_one_is_accepted(receiver: Installation) -> None:
    def problems() -> list[str]:
        return [problem for problem in receiver.http.get("/statusz").json()["problems"] if "to source default" in problem]

    receiver.notify(analysed("before"))
    problems_before = problems()
    refused = [receiver.notify(analysed("x"), key="AnotherKey").status_code for _ in range(2)]
    problems_after_refusal = problems()
    accepted = receiver.notify(analysed("after"))

    assert (refused, accepted.status_code) == ([401, 401], 200)
    assert (problems_before, problems()) == ([], [])
    (sentence,) = problems_after_refusal
    assert sentence.startswith("2 callbacks to source default refused since")
    assert "(signature)" in sentence
    assert "VODSYNC_CALLBACK_KEYS" in sentence


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/vod/callbacks"),
        ("POST", "/callbacks/"),
        ("POST", "//callbacks"),
        ("POST", "/Callbacks"),
        ("POST", "/callbacks/nobody"),
        ("GET", "/callbacks"),
    ],
)
def test_a_signed_request_at_a_wrong_path_is_a_problem_and_logged(receiver: Installation, method: str, path: str) -> None:
    headers = signed(b"{}", url=receiver.callback_url)

    response = receiver.http.request(method, f"{receiver.url}{path}", content=b"{}", headers=headers)

    assert response.status_code in (404, 405)
    assert any(f"{method} '{path}'" in problem for problem in receiver.http.get("/statusz").json()["problems"])
    assert "signed requests arrive at a path that takes no callbacks" in receiver.processes["receiver"].log


def test_an_unsigned_request_after_good_ones_is_no_problem(receiver: Installation) -> None:
    receiver.notify(analysed("before"))

    status = receiver.http.post("/callbacks", content=b"{}").status_code

    assert status == 401
    assert not any("to source default" in problem for problem in receiver.http.get("/statusz").json()["problems"])


def test_lost_schema_makes_readyz_503_with_the_command_to_run(receiver: Installation) -> None:
    version = receiver.database.value("SELECT version_num FROM vod_schema_version")
    receiver.database.do("ALTER TABLE vod_schema_version RENAME TO vod_schema_version_away")

    lost = receiver.http.get("/readyz")
    receiver.database.do("ALTER TABLE vod_schema_version_away RENAME TO vod_schema_version")
    receiver.database.do("UPDATE vod_schema_version SET version_num = '0001'")
    stale = receiver.http.get("/readyz")
    receiver.database.do(f"UPDATE vod_schema_version SET version_num = '{version}'")

    for response in (lost, stale):
        assert response.status_code == 503
        assert response.json()["reason"] == "schema"
        assert "vodsync migrate" in response.json()["error"]
    assert receiver.http.get("/livez").status_code == 200
    assert receiver.http.get("/readyz").status_code == 200


# Stopping


@pytest.mark.parametrize("processes", ["1", "2"])
def test_stop_under_load_answers_every_accepted_request(tmp_path: Path, processes: str) -> None:
    with installed(Pair(None, None), tmp_path) as installation:
        receiver = installation.start("receiver", "serve", "--workers", processes)
        installation.wait_until_ready()
        accepted: set[str] = set()
        other_statuses: list[int] = []

        def send(number: int) -> None:
            with httpx.Client(base_url=installation.url, timeout=10, trust_env=False) as client:
                for count in range(100_000):
                    notification = analysed(f"stop-{number}-{count}")
                    content = json.dumps(notification).encode()
                    try:
                        response = client.post(
                            "/callbacks", content=content, headers=signed(content, url=installation.callback_url)
                        )
                    except httpx.TransportError:
                        return
                    if response.status_code != 200:
                        other_statuses.append(response.status_code)
                        return
                    accepted.add(notification["VideoId"])

        senders = [threading.Thread(target=send, args=(number,)) for number in range(16)]
        for sender in senders:
            sender.start()
        eventually(lambda: len(accepted) > 200, within=10, missing=lambda: f"200 accepted notifications, not {len(accepted)}")
        receiver.terminate()
        exit_code = receiver.wait(within=15)
        for sender in senders:
            sender.join(15)

        assert exit_code == 0
        assert other_statuses == []
        assert {row["media_id"] for row in installation.database.table("vod_notification")} == accepted
        assert installation.database.count("vod_sync_request") == len(accepted)
