"""Webhook signatures, against the public library, a fixed vector, and everything hostile we know of."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.datastructures import Headers

from ctxhost.errors import SettingsError
from ctxhost.webhooks.signing import BadSignature, Verified, decode_secret, sign_body, signed_headers, verify

# A message signed elsewhere, with a secret of Recall's form.
SECRET = "whsec_uVjstrRSKq+hmqhhKSFEt979xzBqccxU"
ID = "msg_2fixture000000000000000001"
TIMESTAMP_S = 1_793_634_073
BODY = (
    b'{"event":"bot.done","data":{"data":{"code":"done","sub_code":null,"updated_at":"2026-11-02T15:41:12.104233+00:00"},'
    b'"bot":{"id":"7c1e0a52-4b0f-4c3e-9f0a-2d6a51b8e001","metadata":{"tenant_id":"t-042","meeting_id":"m-9001"}}}}'
)
SIGNATURE = "v1,9Grftl+ANE/rrzi0zSkFY8pn1aQXxcFWyi8MFrhkCzE="
EMPTY_BODY_SIGNATURE = "v1,LhrS1gztCQww6kjY1abc0FCwA8r/IJXW2QpJTNjFX+4="
OTHER_SIGNATURE = "v1,MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="

KEY = decode_secret(SECRET)
OLD_KEY = b"an older key of thirty-two bytes"
NOW_MS = TIMESTAMP_S * 1_000
WSEC = "wsec_mJ1dF3n0nZ2b8mJ5v3rQm1nXf6s0o9aT2kq7yVw4cLE"
OLD_WSEC = "wsec_8Z0oJ6i3o1uK0F3b3nJr5m2p7Qw9xYt4vL1cHs6dGkA"


def headers(family: str = "webhook", **changes: str) -> dict[str, str]:
    fields = {"id": ID, "timestamp": str(TIMESTAMP_S), "signature": SIGNATURE} | changes
    return {f"{family}-{part}": value for part, value in fields.items()}


def hand_signed(
    *, body: bytes = BODY, timestamp: str = str(TIMESTAMP_S), message_id: str = ID, key: bytes = KEY
) -> str:
    content = message_id.encode() + b"." + timestamp.encode() + b"." + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def check(
    given: Mapping[str, str], body: bytes = BODY, *, keys: tuple[bytes, ...] = (KEY,), now_ms: int = NOW_MS
) -> Verified:
    return verify(headers=given, body=body, secrets=keys, now_ms=now_ms)


@pytest.mark.parametrize(
    ("given", "body"),
    [
        pytest.param(headers(), BODY, id="webhook-headers"),
        pytest.param(headers("svix"), BODY, id="svix-headers"),
        pytest.param({name.title(): value for name, value in headers().items()}, BODY, id="capitals"),
        pytest.param(Headers(headers()), BODY, id="starlette"),
        pytest.param(headers(signature=f"{OTHER_SIGNATURE} {SIGNATURE}"), BODY, id="rotation"),
        pytest.param(headers(signature=f"v1a,xyz {SIGNATURE} garbage"), BODY, id="other-versions"),
        pytest.param(headers(signature=EMPTY_BODY_SIGNATURE), b"", id="empty-body"),
        pytest.param(headers(signature=hand_signed(body=b"\xff\xfe")), b"\xff\xfe", id="not-utf-8"),
    ],
)
def test_genuine_messages_verify(given: Mapping[str, str], body: bytes) -> None:
    """A message signed by somebody else's code is accepted, in both families of headers."""
    assert Verified(ID, TIMESTAMP_S) == check(given, body)


@pytest.mark.parametrize("late_s", [-300, 300])
def test_window_is_five_minutes_both_ways(late_s: int) -> None:
    """Exactly five minutes is still in time; a millisecond more is not."""
    edge_ms = NOW_MS + late_s * 1_000
    assert ID == check(headers(), now_ms=edge_ms).id
    with pytest.raises(BadSignature):
        check(headers(), now_ms=edge_ms + (1 if late_s > 0 else -1))


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in headers().items() if key != f"webhook-{name}"}


def signed_at(timestamp: str) -> dict[str, str]:
    return headers(timestamp=timestamp, signature=hand_signed(timestamp=timestamp))


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="no-headers"),
        pytest.param(without("id"), id="no-id"),
        pytest.param(without("timestamp"), id="no-timestamp"),
        pytest.param(without("signature"), id="no-signature"),
        pytest.param(headers(signature=""), id="empty-list"),
        pytest.param(headers(signature="garbage"), id="no-comma"),
        pytest.param(headers(signature="v1,a,b"), id="two-commas"),
        pytest.param(headers(signature="v1,!!!!"), id="bad-base64"),
        pytest.param(headers(signature="v1,ünïcödé"), id="not-ascii"),
        pytest.param(headers(signature="v1,\ud800"), id="lone-surrogate"),
        pytest.param(headers(signature=SIGNATURE.removeprefix("v1,")), id="no-version"),
        pytest.param(headers(signature=SIGNATURE.replace("v1,", "v2,")), id="other-version"),
        pytest.param(headers(signature=SIGNATURE.rstrip("=")), id="unpadded"),
        pytest.param(headers(signature=SIGNATURE[:-2] + "F="), id="other-spelling-of-the-same-bytes"),
        pytest.param(headers(signature=OTHER_SIGNATURE), id="another-signature"),
        pytest.param(headers(signature=" ".join([OTHER_SIGNATURE] * 10 + [SIGNATURE])), id="eleven-signatures"),
        pytest.param(headers(signature="v1,x " * 100_000 + SIGNATURE), id="a-hundred-thousand-signatures"),
        pytest.param(headers(signature=SIGNATURE + " " + "x" * 8_192), id="header-over-8-KB"),
        pytest.param(headers(id=""), id="empty-id"),
        pytest.param(headers(id="i" * 257, signature=hand_signed(message_id="i" * 257)), id="long-id"),
        pytest.param(headers(id="a.1", signature=hand_signed(message_id="a.1")), id="dot-in-id"),
        pytest.param(headers(id="ü", signature=hand_signed(message_id="ü")), id="id-not-ascii"),
        pytest.param(headers() | {"Webhook-Id": "other"}, id="a-header-twice"),
        pytest.param({"Webhook-Id": "other"} | headers(), id="a-header-twice-the-right-one-last"),
        pytest.param(without("id") | {"svix-id": ID}, id="mixed-families"),
        pytest.param(headers(signature=OTHER_SIGNATURE) | headers("svix"), id="second-family-is-not-a-second-chance"),
        pytest.param(headers() | {"webhook-timestamp": str(TIMESTAMP_S + 1)}, id="timestamp-not-the-signed-one"),
        pytest.param(signed_at(str(TIMESTAMP_S - 301)), id="301-s-old"),
        pytest.param(signed_at(str(TIMESTAMP_S + 301)), id="301-s-ahead"),
        pytest.param(signed_at("-1"), id="negative"),
        pytest.param(signed_at("nan"), id="nan"),
        pytest.param(signed_at("inf"), id="inf"),
        pytest.param(signed_at(f"{TIMESTAMP_S}.0"), id="float"),
        pytest.param(signed_at("1_793_634_073"), id="underscores"),
        pytest.param(signed_at("１７９３６３４０７３"), id="full-width-digits"),
        pytest.param(signed_at("9" * 400), id="400-digits"),
        pytest.param(signed_at(f" {TIMESTAMP_S}"), id="leading-space"),
        pytest.param(signed_at(f"{TIMESTAMP_S}\n"), id="trailing-newline"),
    ],
)
def test_bad_headers_are_refused(given: Mapping[str, str]) -> None:
    """Whatever is wrong with the headers, the answer is the one error, with the one message."""
    with pytest.raises(BadSignature) as caught:
        check(given)
    assert str(BadSignature()) == str(caught.value)


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b":", b": ", 1), b"", b"\xff"])
def test_another_body_is_refused(body: bytes) -> None:
    """The signature covers the raw bytes; one added space is another body."""
    with pytest.raises(BadSignature):
        check(headers(), body)


def test_old_key_counts_only_while_it_is_given() -> None:
    """During a rotation either key will do; afterwards, and with no key at all, nothing is accepted."""
    given = headers(signature=hand_signed(key=OLD_KEY))

    assert ID == check(given, keys=(KEY, OLD_KEY)).id
    for keys in [(KEY,), ()]:
        with pytest.raises(BadSignature):
            check(given, keys=keys)


def test_the_two_families_are_not_mixed() -> None:
    """With both families there and different, id and signature come from the same one."""
    other = hand_signed(message_id="msg_other")
    given = headers("svix", id="msg_other", signature=other) | headers()

    assert ID == check(given).id
    with pytest.raises(BadSignature):
        check(given | {"webhook-signature": other})


_NAME = st.sampled_from([*headers(), *headers("svix"), "Webhook-Id", "content-type"])
_VALUE = st.one_of(
    st.sampled_from([ID, str(TIMESTAMP_S), SIGNATURE, SIGNATURE + " ", "v1,", ",", " ", ""]),
    st.text("v1, =ABab+/", max_size=60),
    st.text("0123456789１٣²_.-+e\ud800\udcff\x00\r\n\téA😀", max_size=40),
)


@given(changes=st.dictionaries(_NAME, _VALUE, max_size=5), body=st.one_of(st.just(BODY), st.binary(max_size=80)))
def test_mutations_either_verify_or_are_refused(changes: dict[str, str], body: bytes) -> None:
    """No header or body makes it raise anything else, and only the genuine message verifies."""
    given = headers() | changes
    try:
        verified = check(given, body)
    except BadSignature:
        return
    assert (BODY, ID, TIMESTAMP_S) == (body, verified.id, verified.timestamp_s)


@given(position=st.integers(0, len(BODY) - 1), flip=st.integers(1, 255))
def test_every_flipped_bit_of_the_body_is_noticed(position: int, flip: int) -> None:
    """There is no byte of the body that the signature does not cover."""
    body = bytearray(BODY)
    body[position] ^= flip

    with pytest.raises(BadSignature):
        check(headers(), bytes(body))


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param("", id="empty"),
        pytest.param("uVjstrRSKq+hmqhhKSFEt979xzBqccxU", id="no-prefix"),
        pytest.param("whsk_uVjstrRSKq+hmqhhKSFEt979xzBqccxU", id="asymmetric"),
        pytest.param("whsec_", id="prefix-only"),
        pytest.param("whsec_uVjstrRSKq+hmqhhKSFEt979xzBqcc", id="short"),
        pytest.param("whsec_uVjstrRSKq hmqhhKSFEt979xzBqccxU", id="space"),
        pytest.param("whsec_uVjstrRSKq-hmqhhKSFEt979xzBqccxU", id="base64url"),
        pytest.param("whsec_ünïcödéünïcödéünïcödéünïcödé", id="not-ascii"),
    ],
)
def test_unusable_secrets_are_refused_at_configuration(secret: str) -> None:
    """A secret that could not verify anything stops the start, and is not repeated in the message."""
    with pytest.raises(SettingsError) as caught:
        decode_secret(secret)
    assert secret.removeprefix("whsec_") not in str(caught.value) or len(secret) <= len("whsec_")


def test_decoded_secret_is_what_the_public_library_uses() -> None:
    """Padded or not, the key bytes are the ones behind the prefix."""
    key = bytes(range(32))
    encoded = base64.b64encode(key).decode()

    assert key == decode_secret(f"whsec_{encoded}") == decode_secret(f"whsec_{encoded.rstrip('=')}")


@given(body=st.text().map(str.encode), message_id=st.from_regex(r"[a-z]{1,5}_[0-9a-f]{8}", fullmatch=True))
def test_incoming_agrees_with_the_public_signer(body: bytes, message_id: str) -> None:
    """What the public library signs, we verify."""
    signature = Webhook(SECRET).sign(message_id, datetime.fromtimestamp(TIMESTAMP_S, UTC), body.decode())

    assert message_id == check(headers(id=message_id, signature=signature), body).id


def test_x_bb_signature_is_the_published_recipe() -> None:
    """A receiver's own HMAC over the raw body, keyed with the secret's text, equals the header."""
    expected = "v1," + base64.b64encode(hmac.new(WSEC.encode(), BODY, hashlib.sha256).digest()).decode()

    assert expected == sign_body(WSEC, BODY)


def outgoing(*secrets: str, now_ms: int = NOW_MS) -> dict[str, str]:
    return signed_headers(secrets=secrets, message_id=ID, now_ms=now_ms, event="bot.done", body=BODY)


def test_outgoing_headers() -> None:
    """Exactly these headers; the timestamp is in whole seconds."""
    sent = outgoing(WSEC, now_ms=NOW_MS + 999)

    assert {
        "content-type": "application/json",
        "x-bb-event": "bot.done",
        "x-bb-signature": sign_body(WSEC, BODY),
        "webhook-id": ID,
        "webhook-timestamp": str(TIMESTAMP_S),
        "webhook-signature": hand_signed(key=WSEC.encode()),
    } == sent


def test_rotation_signs_with_both_in_one_form_and_the_newest_in_the_other() -> None:
    """A receiver that holds either secret verifies the standard form; `x-bb-signature` stays one value."""
    sent = outgoing(WSEC, OLD_WSEC)

    assert sign_body(WSEC, BODY) == sent["x-bb-signature"]
    assert " ".join(hand_signed(key=s.encode()) for s in (WSEC, OLD_WSEC)) == sent["webhook-signature"]


@pytest.mark.parametrize("known", [WSEC, OLD_WSEC])
def test_outgoing_agrees_with_the_public_verifier(known: str) -> None:
    """A receiver with the public library passes base64 of the secret and accepts, also in a rotation."""
    sent = outgoing(WSEC, OLD_WSEC, now_ms=time.time_ns() // 1_000_000)
    receiver = Webhook(base64.b64encode(known.encode()).decode())

    assert "bot.done" == receiver.verify(BODY, sent)["event"]
    with pytest.raises(WebhookVerificationError):
        receiver.verify(BODY + b" ", sent)


@given(body=st.binary(max_size=200))
def test_own_messages_come_back(body: bytes) -> None:
    """What we sign we verify, whatever the bytes."""
    sent = signed_headers(secrets=[WSEC], message_id=ID, now_ms=NOW_MS, event="bot.done", body=body)

    assert Verified(ID, TIMESTAMP_S) == check(sent, body, keys=(WSEC.encode(),))
