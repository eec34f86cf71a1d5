"""Feeds over HTTP: a domain's events, or an aggregate's, as server-sent events."""

from msgspec import UNSET

from eventfleet.feeds.event_feed import EventFeed
from eventfleet.feeds.feed_client import (
    LATEST,
    AggregateFeedClient,
    DomainFeedClient,
    FeedClient,
    FeedSelection,
)
from eventfleet.web.context import RequestContext
from eventfleet.web.feed_response import FeedRequest, FeedResponse
from eventfleet.web.parameters import EventsParameters, FeedParameters
from eventfleet.web.problems import NO_FEED, RequestRefused, invalid
from eventfleet.web.requests import raw_header

LAST_EVENT_ID = "Last-Event-ID"
"""The cursor of a client that was cut off, as browsers send it; it comes before `cursor`."""


def domain_feed(context: RequestContext) -> FeedResponse:
    """Build the response to a client of a domain's feed. RequestRefused."""
    parameters: FeedParameters = context.parameters
    feed, domain = _feed(context), context.services.domain.name
    selection = FeedSelection(
        frozenset(parameters.types) or None,
        frozenset(parameters.aggregates) or None,
        context.grant.aggregates_of(domain),
    )
    start = parameters.start
    client = DomainFeedClient(feed, selection)
    if start in ("", LATEST):
        return _response(context, feed, client, "", start)
    return _response(context, feed, client, start, "")


def aggregate_feed(context: RequestContext) -> FeedResponse:
    """Build the response to a client of an aggregate's feed. RequestRefused."""
    parameters: EventsParameters = context.parameters
    if parameters.limit is not UNSET:
        raise invalid("limit", "can't be given for a feed, which has no end")
    feed, types = _feed(context), frozenset(parameters.types) or None
    client = AggregateFeedClient(feed, context.aggregate_id, types, parameters.after)
    return _response(context, feed, client, "", "")


def _feed(context: RequestContext) -> EventFeed:
    feed = context.services.feed
    if feed is None:
        raise RequestRefused(NO_FEED)
    return feed


def _response(
    context: RequestContext, feed: EventFeed, client: FeedClient, start: str, anew: str
) -> FeedResponse:
    given = context.parameters.cursor
    cursor = raw_header(context.request, LAST_EVENT_ID) or (start if given is UNSET else given)
    asked = FeedRequest(context.request, context.grant.caller, cursor, anew, context.recheck)
    return FeedResponse(feed, client, asked, context.feeds)
