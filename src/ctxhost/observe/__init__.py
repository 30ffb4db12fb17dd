"""What happens in a host, for whoever wants to know: observers get a frozen record of each thing, afterwards.

An observer is a plain function of one record, given as `Host(…, observers=[…])` or by a plugin's `register_observers`.
It runs on the event loop, so it must not block; what it raises is logged and goes no further.
"""

from ctxhost.observe.observers import Observer
from ctxhost.observe.records import (
    BatchRecord,
    CallRecord,
    DeliveryRecord,
    FunctionRecord,
    JobRecord,
    ProviderRecord,
    Record,
    WriteRecord,
)
from ctxhost.observe.watch import Watch

__all__ = [
    "BatchRecord",
    "CallRecord",
    "DeliveryRecord",
    "FunctionRecord",
    "JobRecord",
    "Observer",
    "ProviderRecord",
    "Record",
    "Watch",
    "WriteRecord",
]
