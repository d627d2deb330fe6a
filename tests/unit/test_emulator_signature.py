"""The emulator accepts the calls that VOD would accept, and no others."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from worker.emulator.api import signature
from worker.emulator.api.api_errors import ApiError
from worker.emulator.api.call import ApiCall
from worker.emulator.api.signature import SignatureVerifier, canonical_request, sign_v1, sign_v3

NOON = datetime(2025, 11, 24, 16, 0, tzinfo=UTC).timestamp()

V3_HEADERS = {
    "host": "vod.cn-shanghai.aliyuncs.com",
    "x-acs-action": "BatchGetMediaInfos",
    "x-acs-version": "2017-03-21",
    "x-acs-date": "2025-11-24T16:00:00Z",
    "x-acs-signature-nonce": "n-0001",
    "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
}
V3_SIGNATURE = "24c5e62a374a31372d7ceed247f6eb25521a105ce4a02a6bfecab744456f9cde"
V1_PARAMETERS = {
    "Action": "BatchGetMediaInfos",
    "AccessKeyId": "demoKeyId",
    "Format": "JSON",
    "SignatureMethod": "HMAC-SHA1",
    "SignatureVersion": "1.0",
    "SignatureNonce": "n-0001",
    "Timestamp": "2025-11-24T16:00:00Z",
    "Version": "2017-03-21",
    "MediaIds": "aaa111,bbb222",
}


def new_verifier(**kwargs: str) -> SignatureVerifier:
    return SignatureVerifier("demoKeyId", "demoSecret", **kwargs)


def call_v3(
    verifier: SignatureVerifier,
    *,
    now: float = NOON,
    signature: str = V3_SIGNATURE,
    key: str = "demoKeyId",
    body: bytes = b"",
    **headers: str,
) -> None:
    """Check the example's call with some changes; a header that is "" is left out."""
    sent = {name: value for name, value in (V3_HEADERS | headers).items() if value}
    sent["authorization"] = f"ACS3-HMAC-SHA256 Credential={key},SignedHeaders={';'.join(sorted(sent))},Signature={signature}"
    verifier.verify(ApiCall("POST", "MediaIds=aaa111%2Cbbb222", sent, {}, body), now)


def call_v1(verifier: SignatureVerifier, parameters: dict[str, str], *, now: float = NOON) -> None:
    verifier.verify(ApiCall("POST", urlencode(parameters), {}, parameters, b""), now)


def test_the_example_of_version_3_is_reproduced() -> None:
    canonical = canonical_request("POST", "MediaIds=aaa111%2Cbbb222", V3_HEADERS, sorted(V3_HEADERS), b"")

    digest = hashlib.sha256(canonical.encode()).hexdigest()

    assert digest == "b0a71db5621df320aa61c96a2e8ef134f4e2f16dc01f496124734efae28aeea7"
    assert sign_v3("demoSecret", canonical) == V3_SIGNATURE


def test_the_vendors_example_of_version_1_is_reproduced() -> None:
    parameters = {
        "Action": "GetVideoPlayAuth",
        "AccessKeyId": "testAccessKeyId",
        "Format": "JSON",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": "8f8a035d-6496-4268-afd4-67c22837e38d",
        "SignatureVersion": "1.0",
        "Timestamp": "2017-10-10T12:02:54Z",
        "Version": "2017-03-21",
        "VideoId": "5aed81b74ba84920be578cdfe004af4b",
    }

    assert sign_v1("testAccessKeySecret", "GET", parameters) == "Ibgh7y8Vp47LBuAsf5Xhi1SvDss="


def test_the_other_example_of_version_1_is_reproduced() -> None:
    assert sign_v1("demoSecret", "POST", V1_PARAMETERS) == "bYvVuUW9pr3z9uNdPmOk0whnGkI="


def test_signed_calls_are_accepted() -> None:
    verifier = new_verifier()

    call_v3(verifier)
    call_v1(verifier, V1_PARAMETERS | {"SignatureNonce": "n-2"} | v1_signature(SignatureNonce="n-2"))


def v1_signature(**changes: str) -> dict[str, str]:
    return {"Signature": sign_v1("demoSecret", "POST", V1_PARAMETERS | changes)}


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ({"signature": "0" * 64}, "SignatureDoesNotMatch", 400),
        ({"signature": "é"}, "SignatureDoesNotMatch", 400),
        ({"body": b"changed on the way"}, "SignatureDoesNotMatch", 400),
        ({"x-acs-action": "GetVideoInfo"}, "SignatureDoesNotMatch", 400),
        ({"key": "somebodyElse"}, "InvalidAccessKeyId.NotFound", 404),
        ({"signature": ""}, "IncompleteSignature", 400),
        ({"x-acs-date": ""}, "IncompleteSignature", 400),
        ({"x-acs-signature-nonce": ""}, "IncompleteSignature", 400),
        ({"x-acs-content-sha256": ""}, "IncompleteSignature", 400),
        ({"now": NOON + 15 * 60 + 1}, "InvalidTimeStamp.Expired", 400),
        ({"now": NOON - 15 * 60 - 1}, "InvalidTimeStamp.Expired", 400),
        ({"x-acs-date": "yesterday"}, "InvalidTimeStamp.Format", 400),
        ({"x-acs-security-token": "unasked"}, "InvalidSecurityToken.Malformed", 400),
    ],
)
def test_an_invalid_call_of_version_3_is_refused_with_the_code_of_vod(change: dict[str, str], code: str, status: int) -> None:
    with pytest.raises(ApiError) as refused:
        call_v3(new_verifier(), **change)  # type: ignore[arg-type]

    assert (refused.value.code, refused.value.status) == (code, status)


def test_a_header_of_the_gateway_that_is_not_signed_is_refused() -> None:
    headers = V3_HEADERS | {
        "authorization": f"ACS3-HMAC-SHA256 Credential=demoKeyId,SignedHeaders=host;x-acs-date,Signature={V3_SIGNATURE}"
    }

    with pytest.raises(ApiError, match="x-acs-action is not among the signed ones"):
        new_verifier().verify(ApiCall("POST", "", headers, {}, b""), NOON)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"Signature": "AAAA"}, "SignatureDoesNotMatch"),
        ({"Signature": ""}, "IncompleteSignature"),
        ({"SignatureMethod": "HMAC-MD5"}, "IncompleteSignature"),
        ({"AccessKeyId": "somebodyElse"}, "InvalidAccessKeyId.NotFound"),
        ({"Timestamp": "2025-11-24T15:00:00Z"}, "InvalidTimeStamp.Expired"),
        ({"MediaIds": "ccc333"}, "SignatureDoesNotMatch"),
    ],
)
def test_an_invalid_call_of_version_1_is_refused_with_the_code_of_vod(change: dict[str, str], code: str) -> None:
    with pytest.raises(ApiError) as refused:
        call_v1(new_verifier(), V1_PARAMETERS | v1_signature() | change)

    assert refused.value.code == code


def test_an_unsigned_call_is_refused() -> None:
    with pytest.raises(ApiError, match="neither an Authorization header"):
        call_v1(new_verifier(), {"Action": "GetVideoInfo"})


def test_a_nonce_works_once() -> None:
    verifier = new_verifier()
    call_v3(verifier)

    with pytest.raises(ApiError) as refused:
        call_v3(verifier, now=NOON + 60)

    assert refused.value.code == "SignatureNonceUsed"


def test_only_the_latest_nonces_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "MAX_NONCES", 3)
    verifier = new_verifier()

    for number in range(10):
        nonce = {"SignatureNonce": f"n-{number}"}
        call_v1(verifier, V1_PARAMETERS | nonce | v1_signature(**nonce))

    assert len(verifier._nonces) == 3


def test_a_call_with_the_right_security_token_is_accepted() -> None:
    token = {"SecurityToken": "sts"}

    call_v1(new_verifier(security_token="sts"), V1_PARAMETERS | token | v1_signature(**token))
