"""How often: a bucket of tokens for each address and for each key, in memory, on the host's own clock."""

from collections import OrderedDict
from ipaddress import ip_address, ip_network
from typing import Final

from ctxhost.clock import Clock

MAX_BUCKETS: Final = 20_000
"""So many are remembered; the one that was used longest ago is forgotten first."""
_MINUTE_MS: Final = 60_000


class Limiter:
    """`per_minute` for each name, in one go or spread; what was spent comes back evenly over a minute."""

    def __init__(self, clock: Clock, *, per_minute: int, max_buckets: int = MAX_BUCKETS) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self._max_buckets = max_buckets
        # A debt is counted in parts of which one token has 60,000: a millisecond then pays back `per_minute` of them.
        self._spent: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def wait_s(self, name: str) -> int:
        """How many seconds until `name` may spend again; 0 when it may now."""
        over = self._debt(name) - (self._per_minute - 1) * _MINUTE_MS
        return 0 if over <= 0 else -(-over // (self._per_minute * 1_000))

    def spend(self, name: str) -> None:
        """Count one for `name`."""
        self._spent[name] = (self._debt(name) + _MINUTE_MS, self._clock.now_ms())
        self._spent.move_to_end(name)
        if len(self._spent) > self._max_buckets:
            self._spent.popitem(last=False)

    def _debt(self, name: str) -> int:
        debt, at_ms = self._spent.get(name, (0, 0))
        passed_ms = max(self._clock.now_ms() - at_ms, 0)
        return max(debt - passed_ms * self._per_minute, 0)


def network_of(address: str) -> str:
    """What stands for one caller: an IPv4 address, or the /64 that an IPv6 one was given."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
