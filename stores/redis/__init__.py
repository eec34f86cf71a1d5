"""Markers and notices on Redis."""

from stores.redis.markers import RedisMarkers
from stores.redis.notices import RedisNotices

__all__ = ["RedisMarkers", "RedisNotices"]
