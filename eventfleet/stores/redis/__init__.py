"""Markers and notices on Redis."""

from eventfleet.stores.redis.markers import RedisMarkers
from eventfleet.stores.redis.notices import RedisNotices

__all__ = ["RedisMarkers", "RedisNotices"]
