"""The queue's XML in, messages and faults out."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

#: Levels of elements; the answers have three.
_DEPTH = 16

# A body may hold what XML cannot (vod-protocol 3.1 leaves open what is in there); one such message must not hide its batch.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REFERENCE = re.compile("&#(?:x([0-9a-fA-F]+)|([0-9]+));")


class UnreadableError(Exception):
    """This is not an answer of the queue."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was received. The receipt is what it can be deleted with; None where none came along."""

    message_id: str
    receipt: str | None
    body: str
    #: False where the digest that came along is that of another body.
    intact: bool
    #: How often it was received, this time included.
    dequeue_count: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the queue did not do what it was asked for."""

    code: str
    message: str = ""
    request_id: str = ""


def messages(content: bytes) -> list[Message]:
    """The messages of one answer, whether it is made for one or for several (vod-protocol 3.2). Raises Unreadable."""
    root = _parse(content)
    if root.tag == "Message":
        return [_message(root)]
    if root.tag == "Messages":
        return [_message(each) for each in root if each.tag == "Message"]
    raise UnreadableError(f"<{root.tag[:40]}> in place of messages")


def fault(content: bytes) -> Fault:
    """The error that an answer consists of. Raises Unreadable."""
    root = _parse(content)
    if root.tag != "Error":
        raise UnreadableError(f"<{root.tag[:40]}> in place of an error")
    return _fault(root)


def faults(content: bytes) -> list[Fault]:
    """What became of those that a batch did not delete; empty where the answer is an error of the whole. Raises Unreadable."""
    root = _parse(content)
    return [_fault(each) for each in root if each.tag == "Error"] if root.tag == "Errors" else []


def _message(element: Element) -> Message:
    body = _text(element, "MessageBody")
    count = _text(element, "DequeueCount")
    return Message(
        message_id=_text(element, "MessageId").strip(),
        receipt=_text(element, "ReceiptHandle").strip() or None,
        body=body,
        intact=_is_intact(body, _text(element, "MessageBodyMD5").strip()),
        # A message that does not count could come back for ever, so it counts as received often enough.
        dequeue_count=int(count) if count.isascii() and count.isdigit() and len(count) < 10 else sys.maxsize,
    )


def _fault(element: Element) -> Fault:
    code = _text(element, "Code") or _text(element, "ErrorCode")
    said = _text(element, "Message") or _text(element, "ErrorMessage")
    return Fault(code.strip(), said.strip(), _text(element, "RequestId").strip())


def _text(element: Element, name: str) -> str:
    return element.findtext(name) or ""


def _is_intact(body: str, digest: str) -> bool:
    if not digest or _md5(body.encode()) == digest.upper():
        return True
    try:
        # Senders whose library encodes for them may have digested what they gave it.
        return _md5(base64.b64decode(body, validate=True)) == digest.upper()
    except ValueError:
        return False


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest().upper()


def _parse(content: bytes) -> Element:
    """The root, with names as they stand without their namespace. Raises Unreadable, also for any DTD: entities come with it."""
    text = _REFERENCE.sub(_legal, _NOT_XML.sub("\ufffd", content.decode("utf-8", "replace")))
    builder = TreeBuilder()
    depth = 0

    def start(name: str, _attributes: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH:
            raise UnreadableError("XML that is nested too deeply")
        builder.start(name.rpartition(" ")[2], {})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name.rpartition(" ")[2])

    def refuse(*_: Any) -> None:
        raise UnreadableError("XML with a document type, which the queue does not send")

    parser = expat.ParserCreate("utf-8", " ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise UnreadableError(f"no XML: {error}") from None
    return builder.close()


def _legal(reference: re.Match[str]) -> str:
    """A reference to a character that XML cannot hold stands for U+FFFD."""
    hexadecimal, decimal = reference.groups()
    if len(hexadecimal or decimal) > 8:
        return "\ufffd"
    number = int(hexadecimal, 16) if hexadecimal else int(decimal)
    return "\ufffd" if number > sys.maxunicode or _NOT_XML.match(chr(number)) else reference[0]
