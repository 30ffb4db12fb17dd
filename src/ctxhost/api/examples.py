"""Answers as the description shows them."""

from typing import Any, Final

BOT: Final[dict[str, Any]] = {
    "id": "0197a3a4-6f1e-7c44-b8d8-3a363f2cd9f4",
    "status": "done",
    "statusReason": None,
    "startedAt": "2026-06-11T19:18:03.000Z",
    "completedAt": "2026-06-11T19:18:47.000Z",
    "durationSeconds": 44,
    "recordingUrl": "https://media.example.com/recording.mp4?expires=1781209133",
    "transcriptUrl": "https://media.example.com/transcript.json?expires=1781209133",
    "botName": "Acme Notetaker",
    "metadata": {"session_id": "abc123"},
    "meetingUrl": "https://zoom.us/j/1234567890",
    "platform": "zoom",
    "provider": "recall",
    "createdAt": "2026-06-11T19:17:51.204Z",
}

NEW_BOT: Final[dict[str, Any]] = BOT | {
    "status": "joining",
    "startedAt": None,
    "completedAt": None,
    "durationSeconds": None,
    "recordingUrl": None,
    "transcriptUrl": None,
}
EVENTS: Final = {
    "events": [
        {"event": "bot.in_call_recording", "subCode": None, "at": "2026-06-11T19:18:03.000Z"},
        {"event": "bot.done", "subCode": None, "at": "2026-06-11T19:18:53.734Z"},
    ]
}
USAGE: Final = {
    "rows": [
        {
            "id": "5",
            "dimension": "recording",
            "seconds": 44,
            "usd_charged": "0.007333",
            "created_at": "2026-06-11T19:18:53.734Z",
        },
        {
            "id": "4",
            "dimension": "transcription",
            "seconds": 44,
            "usd_charged": "0.002200",
            "created_at": "2026-06-11T19:18:53.485Z",
        },
    ]
}
DELIVERY: Final = {
    "id": "msg_4f0c6f5bd3a15a0e9f0b6c6d6a1e2f3a",
    "event": "bot.done",
    "bot_id": BOT["id"],
    "state": "delivered",
    "created_at": "2026-06-11T19:18:53.734Z",
    "done_at": "2026-06-11T19:18:53.801Z",
    "attempts": [
        {
            "at": "2026-06-11T19:18:53.801Z",
            "url": "https://your-app.example.com/recall/events",
            "status": 200,
            "outcome": "delivered",
            "answer": '{"ok":true}',
            "took_ms": 61,
        }
    ],
}
CREDITS: Final = {
    "balance_usd": 5,
    "held_usd": 0.065,
    "available_usd": 4.935,
    "pools": {
        "allowance": {"balance_usd": 0, "monthly_usd": 0, "period": "2026-06"},
        "credits": {"balance_usd": 5},
    },
    "open_leases": [
        {
            "id": BOT["id"],
            "app_id": "app_abc123",
            "purpose": "meetings",
            "held_usd": 0.065,
            "dimensions": ["recording", "transcription"],
            "created_at": "2026-06-11T19:17:51.204Z",
            "paid_until": "2026-06-11T19:22:51.204Z",
            "gives_up_at": "2026-06-14T07:47:51.204Z",
        }
    ],
}
ENTRY: Final = {
    "id": "5",
    "kind": "charge",
    "amount_usd": -0.007333333,
    "allowance_usd": 0,
    "credits_usd": -0.007333333,
    "app_id": "app_abc123",
    "lease_id": BOT["id"],
    "purpose": "meetings",
    "dimension": "recording",
    "quantity": 44,
    "mark": None,
    "note": None,
    "created_at": "2026-06-11T19:18:53.734Z",
}
