"""Mends the asynchronous driver's waits under Python 3.11, where a cancelled call can block it.

While no server answers, each call waits under the lock of the driver's topology, by
`asyncio.wait_for`. Before Python 3.12 that runs the wait in a task of its own, and a call that is
cancelled just when such a wait ends leaves the task behind: the call gives back a lock that it does
not have, the task takes the lock and keeps it, and no call of the client ever ends again.
"""

import asyncio
import sys

from pymongo.asynchronous import pool, topology
from pymongo.lock import Condition


async def wait_for_condition(condition: Condition, timeout: float | None) -> bool:
    """Wait to be notified, in the task that calls; False after `timeout` seconds.

    The condition's lock is held again when this ends, however it ends.
    """
    try:
        async with asyncio.timeout(timeout):
            return await condition.wait()
    except TimeoutError:
        return False


def fix_driver() -> None:
    """Replace the driver's own function in the modules that wait by it; later Pythons need none."""
    if sys.version_info < (3, 12):
        for module in (pool, topology):
            module._async_cond_wait = wait_for_condition  # type: ignore[attr-defined]
