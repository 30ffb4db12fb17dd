"""`ctxhost` on a machine whose clock is wrong.

    python wrong_clock.py SECONDS COMMAND …

It runs as far ahead as SECONDS say, or behind when they are negative.
"""

import sys
import time


def shift(seconds: int) -> None:
    """Both clocks that Python tells the time of day by."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + seconds * 1_000_000_000


if __name__ == "__main__":
    shift(int(sys.argv.pop(1)))
    from ctxhost.cli import main

    main()
