"""What can happen to a bot. Each command is one transaction: bot, money, messages and jobs together."""

from ctxhost.meetings.commands.forget import ForgetBot
from ctxhost.meetings.commands.inbound import NoteEvent
from ctxhost.meetings.commands.media import BotNotEnded, ForgetEvents, MediaDeleted, WantMediaDeleted
from ctxhost.meetings.commands.record import LookNow, NoteRecord, NoteUrls
from ctxhost.meetings.commands.renewal import RENEW_BEFORE_MS, Renew
from ctxhost.meetings.commands.shared import DELETE_MEDIA, LEAVE, READ, RENEW, SPAWN, handle_id
from ctxhost.meetings.commands.spawned import OPEN_SPAWNS, SpawnCreated, SpawnGivenUp, SpawnRefused, SpawnUnknown
from ctxhost.meetings.commands.start import Caps, Replay, StartBot
from ctxhost.meetings.commands.stopping import HandleGone, WantStop

__all__ = [
    "DELETE_MEDIA",
    "LEAVE",
    "OPEN_SPAWNS",
    "READ",
    "RENEW",
    "RENEW_BEFORE_MS",
    "SPAWN",
    "BotNotEnded",
    "Caps",
    "ForgetBot",
    "ForgetEvents",
    "HandleGone",
    "LookNow",
    "MediaDeleted",
    "NoteEvent",
    "NoteRecord",
    "NoteUrls",
    "Renew",
    "Replay",
    "SpawnCreated",
    "SpawnGivenUp",
    "SpawnRefused",
    "SpawnUnknown",
    "StartBot",
    "WantMediaDeleted",
    "WantStop",
    "handle_id",
]
