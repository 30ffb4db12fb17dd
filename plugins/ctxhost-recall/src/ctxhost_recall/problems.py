"""What is wrong with the settings, by themselves and by what Recall says to them: for `ctxhost doctor`."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ctxhost.meetings.provider import Problem
from ctxhost_recall.settings import NAME, RecallSettings, is_loopback

REGIONS = ("us-east-1", "us-west-2", "eu-central-1", "ap-northeast-1")
HOSTS = tuple(f"{region}.recall.ai" for region in REGIONS)
WEBHOOKS = f"/v1/ai/meetings/_webhooks/{NAME}"
OWN_TRANSCRIPTION = "recallai_"
"""What the names of Recall's own transcriptions begin with."""

_KEY = re.compile(r"[!-~]+")


def problems_of(settings: RecallSettings) -> Iterator[Problem]:
    """What keeps the adapter from working as it could; never with a secret in it."""
    key = settings.api_key.get_secret_value() if settings.api_key is not None else ""
    if not _KEY.fullmatch(key) or key.startswith("whsec_"):
        yield Problem(
            what="MEETINGS_API_KEY does not look like an API key: every call will be refused.",
            mend="set MEETINGS_API_KEY to the bare key of Recall's dashboard, without blanks or `Token` before it",
        )
    if not settings.webhook_keys:
        yield Problem(
            what="There is no webhook secret: all webhooks are refused, and bots are only read at intervals.",
            mend="set MEETINGS_WEBHOOK_SECRET to the whsec_… of Recall's dashboard, and add an endpoint there for"
            f" https://{{your host}}{WEBHOOKS}",
        )
    host = urlsplit(settings.base_url).hostname or ""
    if host not in HOSTS and not is_loopback(host):
        yield Problem(
            what=f"{settings.base_url} is none of Recall's regions, and the API key is sent there.",
            mend=f"set MEETINGS_BASE_URL to https:// and the host of the key's region: {', '.join(HOSTS)}",
        )
    if settings.rate_limit_percent > 100:
        yield Problem(
            what=f"{settings.rate_limit_percent} % of Recall's published rates may be used: Recall refuses what is"
            " above them.",
            mend="set MEETINGS_RATE_LIMIT_PERCENT to 100 or less, unless Recall has granted the workspace more",
        )
    if settings.transcription_language != "auto" and not settings.transcription.startswith(OWN_TRANSCRIPTION):
        yield Problem(
            what=f"The language {settings.transcription_language!r} is not passed on: {settings.transcription} is not"
            " told of any.",
            mend="unset MEETINGS_TRANSCRIPTION_LANGUAGE, or set MEETINGS_TRANSCRIPTION to recallai_async or"
            " recallai_streaming",
        )


def problems_of_answer(settings: RecallSettings, status: int, *, is_recalls: bool) -> Iterator[Problem]:
    """What Recall's answer to a search says of the key and the address."""
    where = settings.base_url
    if status == 401:
        yield Problem(
            what=f"Recall refuses the key at {where} (401): it is wrong, or belongs to another region.",
            mend=f"set MEETINGS_BASE_URL to https:// and the host of the key's region ({', '.join(HOSTS)}), or mend"
            " MEETINGS_API_KEY",
        )
    elif status == 402:
        yield Problem(what="The Recall account is out of credit (402).", mend="top it up in Recall's dashboard")
    elif status == 403:
        yield Problem(what=f"Recall's firewall at {where} blocks this host (403).", mend="ask Recall to let it through")
    elif status != 429 and not (200 <= status < 300 and is_recalls):
        yield Problem(
            what=f"What answers at {where} ({status}) is not Recall, or Recall is in trouble.",
            mend="check MEETINGS_BASE_URL, and https://status.recall.ai",
        )


def unreachable(settings: RecallSettings, why: str) -> Problem:
    """Nothing came back."""
    mend = "check MEETINGS_BASE_URL, and that this host may reach the internet; --offline skips this"
    return Problem(what=f"{settings.base_url} does not answer ({why}).", mend=mend)
