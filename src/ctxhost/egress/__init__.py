"""Requests that leave the host, guarded: deliveries, `ctx.http`, downloads.

`guard` decides which URLs and addresses may be used, `client` connects to nothing else, `router` keeps the host's own
address in process.
"""

from ctxhost.egress.client import Answer, Egress, new_client, read_capped
from ctxhost.egress.errors import EgressError, EgressFailed, EgressRefused, EgressTimeout
from ctxhost.egress.guard import LOOPBACK, EgressPolicy, ParsedUrl, UrlRefused, check_resolved, check_url, is_public
from ctxhost.egress.router import Router

__all__ = [
    "LOOPBACK",
    "Answer",
    "Egress",
    "EgressError",
    "EgressFailed",
    "EgressPolicy",
    "EgressRefused",
    "EgressTimeout",
    "ParsedUrl",
    "Router",
    "UrlRefused",
    "check_resolved",
    "check_url",
    "is_public",
    "new_client",
    "read_capped",
]
