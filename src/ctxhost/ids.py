"""Identifiers: random where they name something, derived where a repeat must give the same one."""

import secrets
import time
import uuid

_NAMESPACE = uuid.UUID("5b1c6d0e-3f0a-4d0c-9a57-0c1b2a3d4e5f")


def new_id(prefix: str) -> str:
    """`prefix_` and 96 random bits in hex: `app_4f…`."""
    return f"{prefix}_{secrets.token_hex(12)}"


def new_uuid() -> str:
    """A UUID of version 7, the form of a bot's id: rows made one after the other lie side by side in the database."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return str(uuid.UUID(int=number & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62))


def new_secret(prefix: str) -> str:
    """`prefix` and 32 random bytes in base64url: a service key (`bb_sk_`) or a webhook secret (`wsec_`)."""
    return prefix + secrets.token_urlsafe(32)


def derived_id(prefix: str, *parts: str) -> str:
    """The one id that belongs to these parts: the same on every host, after any number of restarts."""
    return f"{prefix}_{uuid.uuid5(_NAMESPACE, '/'.join(parts)).hex}"
