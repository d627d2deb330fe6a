"""No signature and no password gets past strip_signature, clean and the redactor of the log."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.budget import share
from tests.fuzz.notification_rules import is_storable
from tests.fuzz.secret_texts import KNOWN_SECRETS, SecretField, SecretText, log_fields, signed_texts
from worker import logs
from worker.core.urls import MAX_DEPTH, clean, strip_signature

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


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from texts_in(inner)


@share(0.6)
@given(signed_texts)
def test_exactly_the_signature_is_stripped(signed: SecretText) -> None:
    stripped = strip_signature(signed.text)

    assert [secret for secret in signed.secrets if secret in stripped] == []
    assert signed.stripped is None or stripped == signed.stripped
    assert strip_signature(stripped) == stripped
    assert json_value(signed.text) is None or json_value(stripped) is not None


#: Values that a database may refuse or change.
odd_values: st.SearchStrategy[Any] = st.sampled_from(
    [math.nan, math.inf, 1e300, -1e16, -0.0, 2**70, -(2**63) - 1, 10**5000, "\ud800", "a\0b", None, True, {}]
)

#: Keys of objects from the inside to the outside; None for a list.
nestings = st.lists(st.sampled_from(["a", "URL", "\ud800", "k\0", None, None]), max_size=MAX_DEPTH + 4)


@share(0.3)
@given(signed_texts, nestings, odd_values)
def test_a_cleaned_value_has_no_signature_and_is_storable(signed: SecretText, nesting: list[str | None], odd: Any) -> None:
    value: Any = signed.text
    for key in nesting:
        value = [value, odd] if key is None else {key: value, "b": odd}

    cleaned = clean(value)

    text = json.dumps(cleaned, allow_nan=False, ensure_ascii=False)
    assert all(map(is_storable, texts_in(cleaned)))
    assert [secret for secret in signed.secrets if secret in text] == []
    assert clean(cleaned) == cleaned
    cleaned_json = clean(json_value(signed.text))
    assert [secret for secret in signed.secrets if secret in json.dumps(cleaned_json)] == []
    assert clean(cleaned_json) == cleaned_json


@share(0.6)
@given(st.lists(log_fields, min_size=1, max_size=3))
def test_no_secret_is_logged(redactor: Any, fields: list[SecretField]) -> None:
    named = {f"field{number}": field.value for number, field in enumerate(fields)}

    line = redactor(None, "info", {"event": "phrase", **named})

    assert msgspec.json.decode(json.dumps(line, ensure_ascii=False).encode()) == line
    logged = [str(value) for value in line.values()]
    assert [text for text in logged if not text.isprintable()] == []
    remains = KNOWN_SECRETS[1].removeprefix(KNOWN_SECRETS[0])
    assert [secret for secret in (*KNOWN_SECRETS, remains) if any(secret in text for text in logged)] == []
    for name, field in zip(named, fields, strict=True):
        # Only a text that contains an address is searched for signatures.
        signatures = field.signatures if "://" in str(field.value) else ()
        assert [secret for secret in (*field.secrets, *signatures) if secret in str(line[name])] == []
