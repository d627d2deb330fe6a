"""Parse the XML that the SMQ queue sends (vod-protocol 3.2)."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

_MAX_DEPTH = 16  # levels of elements; the queue's answers have three

# Characters that XML does not permit. What a message body contains is not documented (vod-protocol 3.1), and one such body must not
# make the other messages of its batch unreadable.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CHARACTER_REFERENCE = re.compile("&#(?:x([0-9a-fA-F]+)|([0-9]+));")


class SmqXmlError(Exception):
    """The content is not an answer of the queue."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was received."""

    message_id: str
    #: The receipt handle, with which the message is deleted. None if the queue sent none.
    receipt: str | None
    body: str
    #: False if the queue sent the digest of another body.
    intact: bool
    #: How often the message was received, including this time.
    dequeue_count: int


@dataclass(frozen=True, slots=True)
class Fault:
    """The queue's reason for not carrying out a call."""

    code: str
    message: str = ""
    request_id: str = ""


def parse_messages(content: bytes) -> list[Message]:
    """Return the messages of an answer, which has the form for one or the form for several. Raises SmqXmlError."""
    root = _parse(content)
    if root.tag == "Message":
        return [_message(root)]
    if root.tag == "Messages":
        return [_message(element) for element in root if element.tag == "Message"]
    raise SmqXmlError(f"<{root.tag[:40]}> in place of messages")


def parse_fault(content: bytes) -> Fault:
    """Return the reason in an answer that is one error. Raises SmqXmlError."""
    root = _parse(content)
    if root.tag != "Error":
        raise SmqXmlError(f"<{root.tag[:40]}> in place of an error")
    return _fault(root)


def parse_faults(content: bytes) -> list[Fault]:
    """Return a reason for each message that a call did not delete. The list is empty for an error of the whole call.

    Raises SmqXmlError.
    """
    root = _parse(content)
    return [_fault(element) for element in root if element.tag == "Error"] if root.tag == "Errors" else []


def _message(element: Element) -> Message:
    body = _text(element, "MessageBody")
    count = _text(element, "DequeueCount")
    return Message(
        message_id=_text(element, "MessageId").strip(),
        receipt=_text(element, "ReceiptHandle").strip() or None,
        body=body,
        intact=_is_intact(body, _text(element, "MessageBodyMD5").strip()),
        # A message without a valid count could be redelivered forever, so it counts as received for the last time.
        dequeue_count=int(count) if count.isascii() and count.isdigit() and len(count) < 10 else sys.maxsize,
    )


def _fault(element: Element) -> Fault:
    code = _text(element, "Code") or _text(element, "ErrorCode")
    message = _text(element, "Message") or _text(element, "ErrorMessage")
    return Fault(code.strip(), message.strip(), _text(element, "RequestId").strip())


def _text(element: Element, name: str) -> str:
    return element.findtext(name) or ""


def _is_intact(body: str, digest: str) -> bool:
    if not digest or _md5(body.encode()) == digest.upper():
        return True
    try:
        # A sender whose library encodes the body in base64 may send the digest of the text before encoding.
        return _md5(base64.b64decode(body, validate=True)) == digest.upper()
    except ValueError:
        return False


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest().upper()


def _parse(content: bytes) -> Element:
    """Return the root element, with element names without their namespace.

    Raises SmqXmlError, also for any document type, because a document type can define entities.
    """
    text = _CHARACTER_REFERENCE.sub(_legal_reference, _NOT_XML.sub("\ufffd", content.decode("utf-8", "replace")))
    builder = TreeBuilder()
    depth = 0

    def start(name: str, _attributes: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise SmqXmlError("XML that is nested too deeply")
        builder.start(name.rpartition(" ")[2], {})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name.rpartition(" ")[2])

    def refuse(*_: Any) -> None:
        raise SmqXmlError("XML with a document type, which the queue does not send")

    parser = expat.ParserCreate("utf-8", " ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise SmqXmlError(f"invalid XML: {error}") from None
    return builder.close()


def _legal_reference(reference: re.Match[str]) -> str:
    """Return the reference, or U+FFFD if XML does not permit its character."""
    hexadecimal, decimal = reference.groups()
    if len(hexadecimal or decimal) > 8:
        return "\ufffd"
    number = int(hexadecimal, 16) if hexadecimal else int(decimal)
    return "\ufffd" if number > sys.maxunicode or _NOT_XML.match(chr(number)) else reference[0]
