"""The error of declaring a domain."""

from eventfleet.topics.errors import EventfleetError


class DeclarationError(EventfleetError):
    """A domain is declared wrongly."""
