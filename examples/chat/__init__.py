"""Chat rooms, as a team may write them: a followed domain, and HTTP paths of its own.

Run in this repository's folder, a service has both with these settings:

    EVENTFLEET_DOMAINS=examples.chat EVENTFLEET_HTTP_OPERATIONS=examples.chat.rooms eventfleet up
"""

from examples.chat.domain import chat

__all__ = ["chat"]
