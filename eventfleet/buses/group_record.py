"""GroupRecord: which groups a bus has made on its server, to tell where one was lost there."""

from datetime import UTC, datetime

from eventfleet.stores.gaps import tell_gap


class GroupRecord:
    """The groups that are known to exist on the server of a bus, named `where`."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._known: set[str] = set()

    def note(self, group: str, *, made: bool) -> None:
        """Note a group that is there. One that was there before, and is `made` now, was lost."""
        if made and group in self._known:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            tell_gap(
                f"{self._where}, group {group}",
                f"may have lost events published before {now}: its place was gone from the server,"
                " and it goes on with what is published from then on",
            )
        self._known.add(group)
