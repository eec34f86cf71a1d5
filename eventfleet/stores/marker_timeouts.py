"""The timeouts of markers."""

from typing import NamedTuple


class MarkerTimeouts(NamedTuple):
    """Timeouts of markers, in seconds.

    `expiry`: for a marker without a note. `lease`: for a note, until others may finish it.
    `memory`: for an event's id, from its note and again from its confirmation on; never shorter
    than the expiry.
    """

    expiry: float
    lease: float
    memory: float
