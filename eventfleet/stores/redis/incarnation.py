"""The incarnation of a Redis server, as each of its clients reads it."""

from collections.abc import Iterable
from secrets import token_hex

from eventfleet.stores.contracts import Incarnation
from eventfleet.stores.redis.scripts import INCARNATION
from eventfleet.stores.redis.session import Session


async def read_incarnation(session: Session) -> Incarnation:
    """Read the present incarnation and time; the first look begins an incarnation."""
    ((name, began, now),) = await session.run_script(INCARNATION, _call, 1)
    return Incarnation(name.decode(), float(began), float(now))


def _call(run_id: bytes) -> Iterable[bytes]:
    return [INCARNATION.template((b"life",), (run_id, token_hex(8).encode())) % ()]
