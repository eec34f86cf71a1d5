"""On the path of processes that need not ask for a minute whether an offset is really lost."""

from eventfleet.roles import steady_offsets

steady_offsets.DOUBT_SECONDS = 3.0
steady_offsets.STEADY_SECONDS = 0.5
