"""Markers on Redis."""

from stores.redis.markers import RedisMarkers

__all__ = ["RedisMarkers"]
