"""The commands of channels with one rule taken out each."""

from collections.abc import Sequence
from typing import Any

from eventfleet.deciders.commander import Commander, IsLate, PutError, never
from eventfleet.feeds.channel_commands import (
    ChannelCommandSender,
    ChannelCommandSubscriber,
    PublishedCommand,
    ServerMoment,
    ServerTime,
)
from eventfleet.service.command_batcher import CommandBatcher, PendingCall
from eventfleet.stores.contracts import Claim
from eventfleet.stores.memory.channels import MemoryChannels
from eventfleet.topics.event import EventRecord

AFRESH_SECONDS = 5.0
LONG_SECONDS, SHORT_SECONDS = 10.0, 0.05


class ClaimsAnew(MemoryChannels):
    """Without: nothing is claimed past its deadline. A claim lasts for ten seconds."""

    lasting = LONG_SECONDS

    def _claim(self, claim: Claim) -> float:
        now = self._now()
        if self._claims.get(claim.name, 0.0) > now:
            return 0.0
        self._claims[claim.name] = now + self.lasting
        return AFRESH_SECONDS


class ForgetsClaims(ClaimsAnew):
    """Without: a claim outlives the deadline."""

    lasting = SHORT_SECONDS

    def _claim(self, claim: Claim) -> float:
        left = claim.deadline - self._now()
        return min(left, super()._claim(claim)) if left > 0 else 0.0


class LivesOn(MemoryChannels):
    """Without: a deadline counts in its own incarnation."""

    def _claim(self, claim: Claim) -> float:
        return super()._claim(claim._replace(incarnation=str(self._run)))


class DecidesAfresh(ChannelCommandSubscriber):
    """Without: the deadline of the claim holds for the decision, too."""

    async def _answer(self, published: PublishedCommand, deadline: float) -> None:
        await super()._answer(published, deadline + LONG_SECONDS)


class PutsLate(Commander):
    """Without: the deadline is looked at before the put."""

    async def put(
        self, commands: Sequence[Sequence[EventRecord]], is_late: IsLate = never
    ) -> list[PutError | None]:
        return await super().put(commands)


class SharesDeadlines(CommandBatcher):
    """Without: a command keeps its own deadline in a batch whose others have later ones."""

    def _take_calls(self) -> list[PendingCall]:
        calls = super()._take_calls()
        for call in calls:
            call.command = call.command._replace(deadline=None)
        return calls


class LateServerTime(ServerTime):
    async def at(self, moment: float) -> ServerMoment:
        return await super().at(moment + LONG_SECONDS)


class GivesUpEarly(ChannelCommandSender):
    """Without: the deadline comes before the sender gives up."""

    def __init__(self, channels: Any, domain: str) -> None:
        super().__init__(channels, domain)
        self._server_time = LateServerTime(channels)
