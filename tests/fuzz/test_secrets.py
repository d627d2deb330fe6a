"""No signature and no password gets past strip_signature, clean and the redactor of the log."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.secret_texts import KNOWN_SECRETS, SecretField, SecretText, log_fields, signed_texts
from worker import logs
from worker.core.urls import clean, strip_signature

Redactor = type(logs.redactor)


@pytest.fixture(scope="module")
def redactor() -> Any:
    redactor = Redactor()
    redactor.learn(KNOWN_SECRETS)
    return redactor


def json_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@given(signed_texts)
def test_no_signature_survives_stripping_and_cleaning(signed: SecretText) -> None:
    value = json_value(signed.text)

    stripped = strip_signature(signed.text)
    cleaned = clean(value)

    assert [secret for secret in signed.secrets if secret in stripped] == []
    assert strip_signature(stripped) == stripped
    assert value is None or json_value(stripped) is not None
    cleaned_text = json.dumps(cleaned, allow_nan=False, ensure_ascii=False)
    cleaned_text.encode()
    assert [secret for secret in signed.secrets if secret in cleaned_text] == []
    assert clean(cleaned) == cleaned


@given(st.lists(log_fields, min_size=1, max_size=3))
def test_no_secret_is_logged(redactor: Any, fields: list[SecretField]) -> None:
    named = {f"field{number}": field.value for number, field in enumerate(fields)}

    line = redactor(None, "info", {"event": "phrase", **named})

    assert msgspec.json.decode(json.dumps(line, ensure_ascii=False).encode()) == line
    logged = [str(value) for value in line.values()]
    assert [text for text in logged if not text.isprintable()] == []
    assert [secret for secret in KNOWN_SECRETS if any(secret in text for text in logged)] == []
    for name, field in zip(named, fields, strict=True):
        # Only a text that contains an address is searched for signatures.
        signatures = field.signatures if "://" in str(field.value) else ()
        assert [secret for secret in (*field.secrets, *signatures) if secret in str(line[name])] == []
