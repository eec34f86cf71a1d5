"""OpenFeeds: the feeds that clients of this process have open, and why some were cut off."""

from collections import Counter

from eventfleet.service.shares import Shares

MAX_FEEDS = 5_000
MAX_NOTED_CUTS = 1_000


class OpenFeeds:
    """The limit on open feeds, half of them of one caller, and the clients that were cut off.

    `cuts` counts these by reason. `stopping`: the process ends, and so do all feeds.
    """

    def __init__(self) -> None:
        self.shares = Shares(MAX_FEEDS, "open feeds")
        self.cuts: Counter[str] = Counter()
        self.stopping = False
        self._noted: dict[tuple[str | None, str], str] = {}

    def note_cut(self, caller: str | None, target: str, kind: str, reason: str) -> None:
        """Count a client that was cut off, and keep the reason until it returns to its target."""
        self.cuts[kind] += 1
        if len(self._noted) >= MAX_NOTED_CUTS:
            del self._noted[next(iter(self._noted))]
        self._noted[caller, target] = reason

    def take_cut(self, caller: str | None, target: str) -> str | None:
        """Return the reason for which a caller was cut off from a target before, once."""
        return self._noted.pop((caller, target), None)
