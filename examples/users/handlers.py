"""What reacts to users' events: a mapper that derives one of its own, and subscribers."""

from eventfleet.buses import DerivedEvent, DocumentEvent, EventBus
from eventfleet.documents import Diff, EventMapper, EventTypes


class UserMapper(EventMapper):
    """Adds `UserEmailChanged` to a user's default events."""

    def __init__(self) -> None:
        super().__init__()
        self.register("users", EventTypes("UserCreated", "UserUpdated", "UserDeleted"))

    def map_to_events(self, collection: str, id: str, diff: Diff) -> list[DerivedEvent]:
        events = super().map_to_events(collection, id, diff)
        if collection == "users" and not diff.is_new and "email" in diff.merge_patch:
            changed = {"new_email": diff.merge_patch["email"]}
            events.append(DerivedEvent("UserEmailChanged", "User", changed))
        return events


class UserCreatedHandler:
    """Welcomes a new user."""

    def handle_event(self, event: DocumentEvent) -> None:
        print(f"welcome, {event.data['merge_patch']['name']} ({event.aggregate_id})")


async def tell_old_address(event: DocumentEvent) -> None:
    """Tell a user that the address was changed."""
    print(f"{event.aggregate_id}: the address is {event.data['new_email']} now")


def subscribe_all(bus: EventBus) -> None:
    """Subscribe what this program does on events."""
    bus.subscribe("UserCreated", UserCreatedHandler(), "welcome")
    bus.subscribe("UserEmailChanged", tell_old_address, "tell-old-address")
