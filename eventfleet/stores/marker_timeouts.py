"""How long markers count."""

from typing import NamedTuple


class MarkerTimeouts(NamedTuple):
    """Seconds. `expiry`: a marker without a note. `lease`: a note, until others may finish it.
    `memory`: the id of an event, from its note and again from its confirmation on; never shorter
    than the expiry."""

    expiry: float
    lease: float
    memory: float
