"""Read and write the XML of the queue."""

from __future__ import annotations

from collections.abc import Mapping
from xml.parsers import expat
from xml.sax.saxutils import escape

from worker.emulator.api.api_errors import ApiError

_NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"


def document(root: str, content: str) -> bytes:
    """Return a document; `content` is the XML inside the root element."""
    return f'<?xml version="1.0" encoding="utf-8"?>\n<{root} xmlns="{_NAMESPACE}">{content}</{root}>'.encode()


def elements(values: Mapping[str, object]) -> str:
    """Return one element for each name and value, with the value escaped."""
    return "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in values.items())


def element_texts(body: bytes, element_name: str) -> list[str]:
    """Return the texts of all elements with this name, in any namespace. Raises ApiError with MalformedXML.

    A document type is refused because it could define entities that expand without limit.
    """
    texts: list[str] = []
    is_inside = False

    def start(name: str, _attributes: object) -> None:
        nonlocal is_inside
        is_inside = name.rpartition(" ")[2] == element_name
        if is_inside:
            texts.append("")

    def end(_name: str) -> None:
        nonlocal is_inside
        is_inside = False

    def data(text: str) -> None:
        if is_inside:
            texts[-1] += text

    def refuse_document_type(*_: object) -> None:
        raise ApiError("MalformedXML", 400, "A document type is not allowed.")

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = refuse_document_type
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        raise ApiError("MalformedXML", 400, "The XML you provided was not well-formed.") from None
    return texts
