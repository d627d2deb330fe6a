"""The SMQ client: signatures, XML, errors and deletions."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tests import monotonic_clock
from worker.core.errors import VodCredentialsError, VodRefusedError, VodUnavailableError
from worker.settings import Source
from worker.vod import smq_xml
from worker.vod.smq import Queue, sign
from worker.vod.smq_xml import Fault, SmqXmlError

HEAD = '<?xml version="1.0" encoding="utf-8"?>'
SOURCE = Source(
    access_key_id="id", access_key_secret=SecretStr("secret"), smq_endpoint="http://127.0.0.1:9", smq_queue="vod-events"
)
SPACE = 'xmlns="http://mns.aliyuncs.com/doc/v1/"'


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest().upper()


def message(body: str = '{"a":1}', *, raw: str | None = None, **fields: Any) -> str:
    """Return one <Message>. A field set to None is left out. `raw` is the XML inside the tags of the body."""
    elements = {
        "MessageId": "5F290C926D472878-2-14D9529****-200000001",
        "ReceiptHandle": "1-ODU4OTkz",
        "MessageBody": body.replace("&", "&amp;").replace("<", "&lt;") if raw is None else raw,
        "MessageBodyMD5": md5(body),
        "EnqueueTime": 1250700979248,
        "DequeueCount": 1,
        "Priority": 8,
    } | fields
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items() if value is not None)
    return f"<Message>{inner}</Message>"


def answer(*messages: str) -> bytes:
    return f"{HEAD}\n<Messages {SPACE}>{''.join(messages)}</Messages>".encode()


def test_a_request_has_the_documented_signature() -> None:
    headers = {"content-type": "text/xml;charset=utf-8", "date": "Mon, 24 Nov 2025 16:00:00 GMT", "x-mns-version": "2015-06-06"}

    signed = sign("demoSecret", "GET", "/queues/vod-events/messages?numOfMessages=16&waitseconds=20", headers)

    assert signed == "kXgVCYwaBKC0MD/wdSrWk5jmAMc="


# Messages


def test_one_message_is_parsed_like_several() -> None:
    single = f"{HEAD}<Message {SPACE}>{message()[len('<Message>') :]}".encode()

    one, several = smq_xml.parse_messages(single), smq_xml.parse_messages(answer(message(), message("b")))

    assert one == several[:1]
    assert [parsed.body for parsed in several] == ['{"a":1}', "b"]
    assert (one[0].receipt, one[0].intact, one[0].dequeue_count) == ("1-ODU4OTkz", True, 1)


def test_escaped_and_literal_text_are_parsed_in_any_alphabet() -> None:
    text = '{"Title":"<新> & \\"标题\\" 👩‍👩‍👧‍👦"}'

    (escaped,) = smq_xml.parse_messages(answer(message(text)))
    (verbatim,) = smq_xml.parse_messages(answer(message(text, raw=f"<![CDATA[{text}]]>")))

    assert escaped.body == verbatim.body == text
    assert escaped.intact
    assert verbatim.intact


@pytest.mark.parametrize("raw", ["a\x01b", "a&#1;b", "a&#x0;b", "a&#xD800;b", "a&#xFFFE;b", "a&#x99999999999;b", "a&#999999999;b"])
def test_a_character_that_xml_forbids_does_not_affect_the_other_messages(raw: str) -> None:
    bad, good = smq_xml.parse_messages(answer(message(raw=raw), message("b")))

    assert bad.body == "a\ufffdb"
    assert not bad.intact
    assert (good.body, good.intact) == ("b", True)


def test_bytes_that_are_not_utf_8_do_not_affect_the_other_messages() -> None:
    bad, good = smq_xml.parse_messages(answer(message(), message("b")).replace(b'{"a":1}', b'{"a":\xff}'))

    assert bad.body == '{"a":\ufffd}'
    assert good.body == "b"


def test_a_body_is_compared_with_its_digest() -> None:
    fits = {"MessageBodyMD5": md5("b").lower()}
    body = base64.b64encode(b"b").decode()
    digests: list[dict[str, Any]] = [{}, {"MessageBodyMD5": None}, {"MessageBodyMD5": md5("other")}]

    parsed = smq_xml.parse_messages(
        answer(*(message("b", **digest) for digest in digests), message("b", **fits), message(body, **fits))
    )

    # The last digest is that of the text before base64.
    assert [received.intact for received in parsed] == [True, True, False, True, True]


@pytest.mark.parametrize("count", [None, "", "-1", "many", "9" * 30, "²"])
def test_a_message_without_a_valid_count_has_the_largest_one(count: str | None) -> None:
    (parsed,) = smq_xml.parse_messages(answer(message(DequeueCount=count)))

    assert parsed.dequeue_count == sys.maxsize


def test_a_message_without_a_receipt_has_none() -> None:
    (parsed,) = smq_xml.parse_messages(answer(message(ReceiptHandle=None)))

    assert parsed.receipt is None


# Content that is not an answer

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
def test_any_other_content_is_unreadable(content: bytes) -> None:
    began = monotonic_clock.seconds()

    with pytest.raises(SmqXmlError):
        smq_xml.parse_messages(content)

    assert monotonic_clock.seconds() - began < 1


def test_errors_are_parsed_for_a_call_and_for_each_receipt() -> None:
    error = f"<Error {SPACE}><Code>QueueNotExist</Code><Message>no</Message><RequestId>R1</RequestId></Error>"
    inner = "<Error><ErrorCode>MessageNotExist</ErrorCode><ErrorMessage>gone</ErrorMessage><ReceiptHandle>H</ReceiptHandle></Error>"

    assert smq_xml.parse_fault(error.encode()) == Fault("QueueNotExist", "no", "R1")
    assert smq_xml.parse_faults(f"{HEAD}<Errors {SPACE}>{inner}{inner}</Errors>".encode()) == [Fault("MessageNotExist", "gone")] * 2
    assert smq_xml.parse_faults(error.encode()) == []


# Errors


@pytest.mark.parametrize(
    ("status", "code", "kind", "expected"),
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
def test_an_error_shows_whether_a_retry_can_succeed(status: int, code: str, kind: type[Exception], expected: str) -> None:
    content = f"<Error><Code>{code}</Code><RequestId>R1</RequestId></Error>".encode() if code else b"Bad Gateway"

    error = Queue(SOURCE)._error(status, content)

    assert type(error) is kind
    assert expected in str(error)
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
def test_a_known_code_is_recognised_in_plain_text(status: int, content: bytes, kind: type[Exception], code: str) -> None:
    error = Queue(SOURCE)._error(status, content)

    assert type(error) is kind
    assert error.code == code


def client(
    answer: Callable[[httpx.Request], tuple[int, bytes]], warn: Callable[..., object] = print
) -> tuple[Queue, list[httpx.Request]]:
    """Return a queue client that gets `answer`, and the list of its requests."""
    requests = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        status, content = answer(request)
        return httpx.Response(status, content=content)

    queue = Queue(SOURCE, warn=warn)
    queue._http._http = httpx.Client(transport=httpx.MockTransport(handle))
    return queue, requests


def test_a_404_without_a_reason_is_an_empty_queue_for_receive_and_an_error_for_check() -> None:
    warnings: list[str] = []
    queue, _ = client(lambda _: (404, b"<html><br>not found"), lambda phrase, **_: warnings.append(phrase))

    assert [queue.receive(wait=20) for _ in range(2)] == [[], []]
    with pytest.raises(VodUnavailableError, match="HTTP 404"):
        queue.check()
    assert len(warnings) == 1
    assert "VODSYNC_SMQ_ENDPOINT" in warnings[0]


# Deletions

INVALID_ARGUMENT = b"<Error><Code>InvalidArgument</Code></Error>"


def forms(requests: list[httpx.Request]) -> str:
    """Return one letter per request: "s" for a single receipt in the URL, "b" for several in the body."""
    return "".join("b" if request.content else "s" for request in requests)


def test_one_receipt_is_sent_in_the_signed_url_and_several_in_a_body() -> None:
    queue, requests = client(lambda _: (204, b""))
    receipt = "1-a+b/c==&d e%2F"

    assert (queue.delete([receipt]), queue.delete(["1", "2"])) == (1, 2)

    assert forms(requests) == "sb"
    single = requests[0]
    target = single.url.raw_path.decode()
    assert single.url.params["ReceiptHandle"] == receipt
    assert target == "/queues/vod-events/messages?ReceiptHandle=1-a%2Bb%2Fc%3D%3D%26d%20e%252F"
    assert single.headers["authorization"] == f"MNS id:{sign('secret', 'DELETE', target, single.headers)}"


@pytest.mark.parametrize(
    ("status", "content"), [(400, INVALID_ARGUMENT), (400, b"Bad Request"), (404, b"no such page"), (405, b""), (403, b"WAF")]
)
def test_a_queue_that_refuses_several_receipts_gets_them_one_by_one_from_then_on(status: int, content: bytes) -> None:
    statuses: list[int] = []
    queue, requests = client(
        lambda request: (status, content) if request.content else (204, b""), lambda _, **fields: statuses.append(fields["status"])
    )

    deleted = [queue.delete(["1", "2"]), queue.delete(["3", "4", "5"])]

    assert deleted == [2, 3]
    assert forms(requests) == "bss" + "sss"
    assert statuses == [status]


def test_an_expired_receipt_does_not_affect_the_others() -> None:
    expired = b"<Error><Code>ReceiptHandleError</Code></Error>"
    queue, requests = client(lambda request: (204, b"") if "=2" in str(request.url) else (400, expired))

    assert [queue.delete(["1", "2", "3"]) for _ in range(2)] == [1, 1]
    # The second call uses the body again, because the form was not refused.
    assert forms(requests) == "bsss" * 2


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
def test_an_error_that_is_not_about_the_form_is_raised_at_once(status: int, code: str, kind: type[Exception]) -> None:
    queue, requests = client(lambda _: (status, code.encode()))

    with pytest.raises(kind):
        queue.delete(["1", "2"])

    assert forms(requests) == "b"


def test_all_receipts_are_sent_although_one_is_refused() -> None:
    queue, requests = client(lambda request: (204, b"") if "=2" in str(request.url) else (400, INVALID_ARGUMENT))

    with pytest.raises(VodRefusedError, match="InvalidArgument"):
        queue.delete(["1", "2", "3"])

    assert forms(requests) == "bsss"
