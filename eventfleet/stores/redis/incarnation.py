"""The incarnation of a Redis server, as each of its clients reads it."""

from collections.abc import Iterable
from functools import partial
from secrets import token_hex

from eventfleet.stores.contracts import Incarnation
from eventfleet.stores.redis.scripts import INCARNATION
from eventfleet.stores.redis.session import Session


async def read_incarnation(session: Session, life: bytes) -> Incarnation:
    """Read the present incarnation, at the key `life`, and time; the first look begins one."""
    ((name, began, now),) = await session.run_script(INCARNATION, partial(_call, life), 1)
    return Incarnation(name.decode(), float(began), float(now))


def _call(life: bytes, run_id: bytes) -> Iterable[bytes]:
    return [INCARNATION.template((life,), (run_id, token_hex(8).encode())) % ()]
