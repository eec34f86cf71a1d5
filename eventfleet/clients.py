"""A client of feeds, for programs to import: the events of a domain or an aggregate, as they come.

    from eventfleet.clients import follow

    async with follow("http://127.0.0.1:8080/domains/orders/feed") as feed:
        async for message in feed:
            if message.kind == "reload":
                mine.clear()
            else:
                mine.apply(message.data)

Where the connection is lost it connects again, and goes on after the last message. It needs httpx:
`pip install "eventfleet[client]"`.
"""

from eventfleet.feeds.feed_follower import FeedRefused, FeedUpdate, follow

__all__ = ["FeedRefused", "FeedUpdate", "follow"]
