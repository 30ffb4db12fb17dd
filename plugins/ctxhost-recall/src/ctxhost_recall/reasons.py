"""How a call ended, from Recall's sub_codes. They are no closed set: one that is not known says nothing by itself."""

from collections.abc import Mapping

from ctxhost.meetings.provider import End

END_OF: Mapping[str, End] = {
    "bot_received_leave_call": End.LEFT,
    "bot_kicked_from_call": End.KICKED,
    "bot_kicked_from_waiting_room": End.NOT_ADMITTED,
    "timeout_exceeded_waiting_room": End.NOT_ADMITTED,
    "call_ended_by_platform_waiting_room_timeout": End.NOT_ADMITTED,
    "meeting_not_started": End.NOT_ADMITTED,
    "breakout_room_not_open": End.NOT_ADMITTED,
    "call_ended_by_host": End.OVER,
    "call_ended_by_platform_idle": End.OVER,
    "call_ended_by_platform_max_length": End.OVER,
    "timeout_exceeded_noone_joined": End.ALONE,
    "timeout_exceeded_everyone_left": End.OVER,
    "timeout_exceeded_silence_detected": End.OVER,
    "timeout_exceeded_only_bots_detected_using_participant_names": End.OVER,
    "timeout_exceeded_only_bots_detected_using_participant_events": End.OVER,
    "timeout_exceeded_only_bots_in_call": End.OVER,
    "timeout_exceeded_in_call_not_recording": End.OVER,
    "timeout_exceeded_in_call_recording": End.OVER,
    "timeout_exceeded_recording_permission_denied": End.OVER,
    "timeout_exceeded_max_duration": End.OVER,
}
"""What stands on `call_ended`. Whatever stands on `fatal` is a failure."""

CALL_IS_OVER = "cannot_command_completed_bot"
NOT_IN_A_CALL = "cannot_command_unstarted_bot"
"""Slugs of a refused command; Recall gives the second also for bots that are gone already."""


def end_of_call(sub_code: str, *, admitted: bool) -> End:
    """The end that a `call_ended` tells of, given whether the bot was ever let in.

    A bot that was in the call was not kept out of it, whatever the code says; nor was one in it that nobody let in.
    """
    end = END_OF.get(sub_code, End.OVER)
    if not admitted:
        return End.NOT_ADMITTED if end in (End.OVER, End.ALONE) else end
    if end is not End.NOT_ADMITTED:
        return end
    return End.KICKED if sub_code.startswith("bot_kicked") else End.OVER
