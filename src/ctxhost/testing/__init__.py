"""What authors of plugins and handlers import in their tests: a host on a clock that is moved by hand.

async with Simulation(plugins=[ctxhost_fake], plugin_settings={"fake": {"enabled": True}}) as sim:
    tenant = await sim.open_tenant()
    inbox = await sim.receive(tenant)
    bot = await sim.start(tenant, metadata={"fake_script": "three_hours"})
    await sim.run()
    assert "bot.done" == inbox.events(bot.id)[-1]
"""

from ctxhost.clock import ManualClock
from ctxhost.testing.inbox import Inbox, Received
from ctxhost.testing.simulation import NeverHappened, Simulation, Tenant

__all__ = ["Inbox", "ManualClock", "NeverHappened", "Received", "Simulation", "Tenant"]
