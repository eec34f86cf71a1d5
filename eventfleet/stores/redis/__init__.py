"""Markers, notices and channels on Redis."""

from eventfleet.stores.redis.channels import RedisChannels
from eventfleet.stores.redis.markers import RedisMarkers
from eventfleet.stores.redis.notices import RedisNotices

__all__ = ["RedisChannels", "RedisMarkers", "RedisNotices"]
