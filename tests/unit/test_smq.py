"""The queue's signature, its XML, and what its errors ask for."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests import monotonic_clock
from worker.core.errors import VodCredentialsError, VodRefusedError, VodUnavailableError
from worker.settings import Source
from worker.vod import smq_xml
from worker.vod.smq import Queue, sign
from worker.vod.smq_xml import Fault, SmqXmlError

HEAD = '<?xml version="1.0" encoding="utf-8"?>'
SOURCE = Source(access_key_id="id", access_key_secret="secret", smq_endpoint="http://127.0.0.1:9", smq_queue="vod-events")
SPACE = 'xmlns="http://mns.aliyuncs.com/doc/v1/"'


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest().upper()


def message(body: str = '{"a":1}', *, raw: str | None = None, **fields: Any) -> str:
    """One <Message>; a field set to None is left out, `raw` is what stands between the tags of the body."""
    told = {
        "MessageId": "5F290C926D472878-2-14D9529****-200000001",
        "ReceiptHandle": "1-ODU4OTkz",
        "MessageBody": body.replace("&", "&amp;").replace("<", "&lt;") if raw is None else raw,
        "MessageBodyMD5": md5(body),
        "EnqueueTime": 1250700979248,
        "DequeueCount": 1,
        "Priority": 8,
    } | fields
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in told.items() if value is not None)
    return f"<Message>{inner}</Message>"


def answer(*messages: str) -> bytes:
    return f"{HEAD}\n<Messages {SPACE}>{''.join(messages)}</Messages>".encode()


def test_the_signature_is_the_documented_one() -> None:
    headers = {"content-type": "text/xml;charset=utf-8", "date": "Mon, 24 Nov 2025 16:00:00 GMT", "x-mns-version": "2015-06-06"}

    signed = sign("demoSecret", "GET", "/queues/vod-events/messages?numOfMessages=16&waitseconds=20", headers)

    assert signed == "kXgVCYwaBKC0MD/wdSrWk5jmAMc="


# Messages


def test_one_message_and_several_are_read_alike() -> None:
    single = f"{HEAD}<Message {SPACE}>{message()[len('<Message>') :]}".encode()

    one, several = smq_xml.parse_messages(single), smq_xml.parse_messages(answer(message(), message("b")))

    assert one == several[:1]
    assert [each.body for each in several] == ['{"a":1}', "b"]
    assert (one[0].receipt, one[0].intact, one[0].dequeue_count) == ("1-ODU4OTkz", True, 1)


def test_all_alphabets_and_escapes_survive() -> None:
    text = '{"Title":"<新> & \\"标题\\" 👩‍👩‍👧‍👦"}'

    (escaped,) = smq_xml.parse_messages(answer(message(text)))
    (verbatim,) = smq_xml.parse_messages(answer(message(text, raw=f"<![CDATA[{text}]]>")))

    assert escaped.body == verbatim.body == text
    assert escaped.intact
    assert verbatim.intact


@pytest.mark.parametrize("raw", ["a\x01b", "a&#1;b", "a&#x0;b", "a&#xD800;b", "a&#xFFFE;b", "a&#x99999999999;b", "a&#999999999;b"])
def test_a_character_that_xml_cannot_hold_does_not_hide_the_other_messages(raw: str) -> None:
    bad, good = smq_xml.parse_messages(answer(message(raw=raw), message("b")))

    assert bad.body == "a\ufffdb"
    assert not bad.intact
    assert (good.body, good.intact) == ("b", True)


def test_bytes_that_are_not_utf_8_do_not_hide_the_other_messages() -> None:
    bad, good = smq_xml.parse_messages(answer(message(), message("b")).replace(b'{"a":1}', b'{"a":\xff}'))

    assert bad.body == '{"a":\ufffd}'
    assert good.body == "b"


def test_a_body_is_held_against_its_digest() -> None:
    fits = {"MessageBodyMD5": md5("b").lower()}
    body = base64.b64encode(b"b").decode()
    digests = [{}, {"MessageBodyMD5": None}, {"MessageBodyMD5": md5("other")}]

    seen = smq_xml.parse_messages(answer(*(message("b", **each) for each in digests), message("b", **fits), message(body, **fits)))

    # The last digest is that of what stands behind base64.
    assert [each.intact for each in seen] == [True, True, False, True, True]


@pytest.mark.parametrize("count", [None, "", "-1", "many", "9" * 30, "²"])
def test_a_message_that_does_not_count_was_received_often_enough(count: str | None) -> None:
    (seen,) = smq_xml.parse_messages(answer(message(DequeueCount=count)))

    assert seen.dequeue_count == sys.maxsize


def test_a_message_without_a_receipt_has_none() -> None:
    (seen,) = smq_xml.parse_messages(answer(message(ReceiptHandle=None)))

    assert seen.receipt is None


# What is no answer

BOMB = """<?xml version="1.0"?><!DOCTYPE Messages [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><Messages><Message><MessageBody>&c;</MessageBody></Message></Messages>"""
OUTSIDE = '<!DOCTYPE Messages [<!ENTITY f SYSTEM "file:///etc/hostname">]><Messages><Message>&f;</Message></Messages>'


@pytest.mark.parametrize("document", [BOMB, OUTSIDE, "<!DOCTYPE Messages><Messages/>"])
def test_a_document_type_is_refused_and_entities_with_it(document: str) -> None:
    with pytest.raises(SmqXmlError, match="document type"):
        smq_xml.parse_messages(document.encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"OK", b"{}", b"<html><br></html>", b"<Queue/>", answer(message())[:-3], b"<a>" * 200_000, b"<Messages>&x;</Messages>"],
)
def test_anything_else_is_unreadable(content: bytes) -> None:
    began = monotonic_clock.seconds()

    with pytest.raises(SmqXmlError):
        smq_xml.parse_messages(content)

    assert monotonic_clock.seconds() - began < 1


def test_errors_are_read_alone_and_by_receipt() -> None:
    error = f"<Error {SPACE}><Code>QueueNotExist</Code><Message>no</Message><RequestId>R1</RequestId></Error>"
    inner = "<Error><ErrorCode>MessageNotExist</ErrorCode><ErrorMessage>gone</ErrorMessage><ReceiptHandle>H</ReceiptHandle></Error>"

    assert smq_xml.parse_fault(error.encode()) == Fault("QueueNotExist", "no", "R1")
    assert smq_xml.parse_faults(f"{HEAD}<Errors {SPACE}>{inner}{inner}</Errors>".encode()) == [Fault("MessageNotExist", "gone")] * 2
    assert smq_xml.parse_faults(error.encode()) == []


# What an error asks for


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (404, "QueueNotExist", VodRefusedError, "VODSYNC_SMQ_QUEUE"),
        (403, "AccessDenied", VodCredentialsError, "mns:ReceiveMessage"),
        (403, "InvalidAccessKeyId", VodCredentialsError, "keys"),
        (403, "SignatureDoesNotMatch", VodCredentialsError, "keys"),
        (400, "InvalidDateHeader", VodCredentialsError, "clock"),
        (400, "InvalidArgument", VodRefusedError, "InvalidArgument"),
        (500, "InternalError", VodUnavailableError, "not available"),
        (503, "", VodUnavailableError, "not available"),
        (404, "", VodUnavailableError, "not available"),
        (429, "QpsLimitExceeded", VodUnavailableError, "not available"),
    ],
)
def test_an_error_says_whether_asking_again_helps(status: int, code: str, kind: type[Exception], says: str) -> None:
    content = f"<Error><Code>{code}</Code><RequestId>R1</RequestId></Error>".encode() if code else b"Bad Gateway"

    error = Queue(SOURCE)._error(status, content)

    assert type(error) is kind
    assert says in str(error)
    assert (error.code, error.request_id) == (code, "R1" if code else "")


@pytest.mark.parametrize(
    ("status", "content", "kind", "code"),
    [
        (404, b"MessageNotExist: Message not exist.", VodRefusedError, "MessageNotExist"),
        (404, b'{"Code":"QueueNotExist"}', VodRefusedError, "QueueNotExist"),
        (404, b"<Error><Code>MessageNotExist</Code><Mess", VodRefusedError, "MessageNotExist"),
        (403, b"<html><br>AccessDenied</html>", VodCredentialsError, "AccessDenied"),
        (404, b"QueueNotExistent", VodUnavailableError, ""),
        (502, b"AccessDenied", VodUnavailableError, ""),
    ],
)
def test_a_known_code_counts_in_plain_text_too(status: int, content: bytes, kind: type[Exception], code: str) -> None:
    error = Queue(SOURCE)._error(status, content)

    assert type(error) is kind
    assert error.code == code


def answering(
    answer: Callable[[httpx.Request], tuple[int, bytes]], warn: Callable[..., object] = print
) -> tuple[Queue, list[httpx.Request]]:
    """A queue client, what it asked for, and `answer` as what it gets."""
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        status, content = answer(request)
        return httpx.Response(status, content=content)

    queue = Queue(SOURCE, warn=warn)
    queue._http = httpx.Client(transport=httpx.MockTransport(handle))
    return queue, asked


def test_a_404_without_a_reason_is_an_empty_answer_and_a_doubt_for_whoever_looks() -> None:
    told: list[str] = []
    queue, _ = answering(lambda _: (404, b"<html><br>not found"), lambda said, **_: told.append(said))

    assert [queue.receive(wait=20) for _ in range(2)] == [[], []]
    with pytest.raises(VodUnavailableError, match="HTTP 404"):
        queue.check()
    assert len(told) == 1
    assert "VODSYNC_SMQ_ENDPOINT" in told[0]


# Delete

ONE_BY_ONE = b"<Error><Code>InvalidArgument</Code></Error>"


def forms(asked: list[httpx.Request]) -> str:
    """One letter a call: whether it named one receipt in its address, or several in its body."""
    return "".join("b" if request.content else "s" for request in asked)


def test_one_receipt_goes_into_the_signed_address_and_several_into_a_body() -> None:
    queue, asked = answering(lambda _: (204, b""))
    receipt = "1-a+b/c==&d e%2F"

    assert (queue.delete([receipt]), queue.delete(["1", "2"])) == (1, 2)

    assert forms(asked) == "sb"
    single = asked[0]
    target = single.url.raw_path.decode()
    assert single.url.params["ReceiptHandle"] == receipt
    assert target == "/queues/vod-events/messages?ReceiptHandle=1-a%2Bb%2Fc%3D%3D%26d%20e%252F"
    assert single.headers["authorization"] == f"MNS id:{sign('secret', 'DELETE', target, single.headers)}"


@pytest.mark.parametrize(
    ("status", "content"), [(400, ONE_BY_ONE), (400, b"Bad Request"), (404, b"no such page"), (405, b""), (403, b"WAF")]
)
def test_a_queue_that_deletes_one_by_one_is_asked_for_several_once(status: int, content: bytes) -> None:
    told: list[int] = []
    queue, asked = answering(
        lambda request: (status, content) if request.content else (204, b""), lambda _, **fields: told.append(fields["status"])
    )

    deleted = [queue.delete(["1", "2"]), queue.delete(["3", "4", "5"])]

    assert deleted == [2, 3]
    assert forms(asked) == "bss" + "sss"
    assert told == [status]


def test_a_receipt_that_expired_among_several_costs_the_others_nothing() -> None:
    expired = b"<Error><Code>ReceiptHandleError</Code></Error>"
    queue, asked = answering(lambda request: (204, b"") if "=2" in str(request.url) else (400, expired))

    assert [queue.delete(["1", "2", "3"]) for _ in range(2)] == [1, 1]
    # That was no refusal of the form.
    assert forms(asked) == "bsss" * 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", VodCredentialsError),
        (400, "TimeExpired", VodCredentialsError),
        (404, "QueueNotExist", VodRefusedError),
        (429, "", VodUnavailableError),
        (503, "ServiceUnavailable", VodUnavailableError),
    ],
)
def test_what_is_not_about_the_form_is_not_tried_one_by_one(status: int, code: str, kind: type[Exception]) -> None:
    queue, asked = answering(lambda _: (status, code.encode()))

    with pytest.raises(kind):
        queue.delete(["1", "2"])

    assert forms(asked) == "b"


def test_a_receipt_that_is_refused_keeps_no_other_one() -> None:
    queue, asked = answering(lambda request: (204, b"") if "=2" in str(request.url) else (400, ONE_BY_ONE))

    with pytest.raises(VodRefusedError, match="InvalidArgument"):
        queue.delete(["1", "2", "3"])

    assert forms(asked) == "bsss"
