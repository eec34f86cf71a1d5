"""Transactions of Kafka's old protocol: requests that may come late, and a broker without defence.

A request of a transaction carries the producer's epoch, and nothing that names the transaction. So
a late one counts as one of the transaction that is open when it comes, or opens another.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Any

from eventfleet.stores.errors import ServerUnavailable
from eventfleet.stores.memory.log import SourcePartition, Transaction
from eventfleet.stores.memory.yield_point import YieldPoint
from eventfleet.topics.record import ProducerRecord
from tests.simulation.scheduler import Scheduler
from tests.simulation.simulated_log import SimulatedLog

TIMEOUT_STEPS = 600
MAX_PATIENCE = 12
Place = tuple[str, int]
"""A topic and a partition."""


class Unanswered(ServerUnavailable):
    """A request was sent, or may have been, and no answer has come."""


class TryAgain(Exception):
    """The answer to a request is an error that may be gone the next time."""


class OldBroker:
    """Does the requests of all transactional producers, each in one step.

    It checks that a request has the producer's newest epoch. A producer has one source partition,
    and its transactional id is that partition's.
    """

    def __init__(self, log: SimulatedLog) -> None:
        self._log = log
        self._ended: dict[tuple[SourcePartition, int], bool] = {}  # by epoch: was it committed?
        self._sequences: dict[tuple[SourcePartition, int, Place], int] = {}
        self._with_offsets: set[Transaction] = set()
        self._unstable: deque[tuple[SourcePartition, int]] = deque()

    # Requests

    def init_producer_id(self, owner: SourcePartition) -> int:
        """Abort what is open, and return the new epoch."""
        return self._log.fence(owner)

    def add_partitions(self, owner: SourcePartition, epoch: int, places: Collection[Place]) -> None:
        for place in places:
            self._log.entries(*place)
        self._begin(owner, epoch).partitions.update(places)

    def add_offsets(self, owner: SourcePartition, epoch: int) -> None:
        self._with_offsets.add(self._begin(owner, epoch))

    def produce(
        self,
        owner: SourcePartition,
        epoch: int,
        place: Place,
        sequence: int,
        records: Sequence[ProducerRecord],
    ) -> None:
        """Write a batch; `sequence` is the number of its first record, by producer and partition.

        One whose number was taken is a repeat, and is dropped.
        """
        transaction = self.verify(owner, epoch, place)
        key = owner, epoch, place
        following = self._sequences.get(key, 0)
        if sequence > following:
            raise ServerUnavailable(f"batch {sequence} of {place} came before {following}")
        if sequence == following:
            for record in records:
                self._log.append(record, transaction)
            self._sequences[key] = following + len(records)

    def verify(self, owner: SourcePartition, epoch: int, place: Place) -> Transaction:
        """Return the transaction that a batch belongs to, as Kafka does from 3.7 on."""
        transaction = self._open(owner, epoch)
        if transaction is None or place not in transaction.partitions:
            raise ServerUnavailable(f"{place} is not in the transaction")
        return transaction

    def commit_offset(self, owner: SourcePartition, epoch: int, offset: int) -> None:
        transaction = self._open(owner, epoch)
        if transaction is None or transaction not in self._with_offsets:
            raise ServerUnavailable("the transaction has no group")
        transaction.offset = offset

    def end(self, owner: SourcePartition, epoch: int, commit: bool, stable: bool) -> None:
        """End the transaction; unless `stable`, the group's offset follows a while later."""
        transaction = self._open(owner, epoch)
        if transaction is None:
            if self._ended.get((owner, epoch)) is not commit:
                raise ServerUnavailable("no transaction is open")
            return
        offset, transaction.offset = transaction.offset, None
        self._log.end(transaction, commit)
        self._ended[owner, epoch] = commit
        if commit and offset is not None:
            self._unstable.append((owner, offset))
            if stable:
                self.settle()

    def committed(self, owner: SourcePartition, stable: bool) -> int | None:
        """Return the group's offset. TryAgain where it is to be `stable`, and is about to move."""
        if stable and any(each == owner for each, _ in self._unstable):
            raise TryAgain
        return self._log.offsets.get(owner)

    # What it does by itself

    def settle(self) -> None:
        """Move the offsets of transactions that are committed."""
        while self._unstable:
            owner, offset = self._unstable.popleft()
            self._log.offsets[owner] = offset

    @property
    def is_settled(self) -> bool:
        return not self._unstable

    def _begin(self, owner: SourcePartition, epoch: int) -> Transaction:
        """The transaction that is open, or a new one."""
        return self._open(owner, epoch) or self._log.begin(owner, epoch)

    def _open(self, owner: SourcePartition, epoch: int) -> Transaction | None:
        self._log.check_generation(owner, epoch)
        return self._log.transaction_of(owner)


class Fate(Enum):
    """What becomes of a request."""

    ANSWERED = "is answered"
    HELD = "is under way for long"
    CUT = "never arrives"
    SILENT = "is done, but not answered"
    REFUSED = "is answered: try again"
    DOUBTFUL = "is done, but answered: try again"


FAULTS = (Fate.HELD, Fate.HELD, Fate.HELD, Fate.CUT, Fate.SILENT, Fate.REFUSED, Fate.DOUBTFUL)


class Request:
    """A request that was sent. `patience`: how many steps its sender waits for an answer."""

    def __init__(self, name: str, owner: SourcePartition, do: Callable[[], Any]) -> None:
        self.name, self.owner, self._do = name, owner, do
        self.fate, self.patience = Fate.ANSWERED, 0
        self.within: Transaction | None = None  # that was open when it was sent
        self.is_done = False
        self.result: Any = None
        self.error: Exception | None = None

    def __str__(self) -> str:
        return f"{self.name} of {'/'.join(map(str, self.owner))}"

    def arrive(self) -> None:
        """Have the broker do it."""
        self.is_done = True
        try:
            self.result = self._do()
        except Exception as error:
            self.error = error

    def answer(self) -> Any:
        if self.error:
            raise self.error
        return self.result


class Network:
    """Between producers and the broker. `rate`: how often something befalls a request.

    What a producer has sent arrives some time, whatever becomes of the producer. `go_on` is called
    after each step of the schedule.
    """

    def __init__(
        self,
        log: SimulatedLog,
        scheduler: Scheduler,
        rate: float,
        broker: type[OldBroker] = OldBroker,
    ) -> None:
        self.broker = broker(log)
        self.rate = rate
        self._log, self._scheduler = log, scheduler
        self._under_way: list[Request] = []
        self._begun: dict[Transaction, int] = {}

    def send(self, name: str, owner: SourcePartition, do: Callable[[], Any]) -> Request:
        request = Request(name, owner, do)
        request.within = self._log.transaction_of(owner)
        if self.rate and self._scheduler.chance(self.rate):
            self._befall(request)
        if request.fate not in (Fate.CUT, Fate.REFUSED):
            self._under_way.append(request)
        return request

    async def receive(self, request: Request, yield_point: YieldPoint) -> Any:
        """Await the answer to a request. Unanswered; TryAgain; or what the broker raises."""
        await yield_point()
        for _ in range(request.patience):
            if not request.is_done:
                await yield_point()
        if request.fate is not Fate.HELD:
            self._deliver(request)
        await yield_point()
        if request.fate in (Fate.REFUSED, Fate.DOUBTFUL):
            raise TryAgain
        if request.fate in (Fate.CUT, Fate.SILENT) or not request.is_done:
            raise Unanswered(f"{request.name}: no answer")
        return request.answer()

    def ends_stable(self) -> bool:
        """Whether a transaction's offset moves at once when the transaction ends."""
        return not (self.rate and self._scheduler.chance(10 * self.rate))

    def go_on(self) -> None:
        """Now and then a request arrives late; what was begun long ago is aborted."""
        if self._under_way:
            request = self._scheduler.random.choice(self._under_way)
            if self._scheduler.chance(self._chance(request)):
                self._arrive_late(request)
        if not self.broker.is_settled and self._scheduler.chance(0.05):
            self.broker.settle()
        self._time_out()

    @property
    def is_idle(self) -> bool:
        """True when nothing is under way and no transaction is open."""
        return not self._under_way and self.broker.is_settled and not self._log.open_transactions()

    def _befall(self, request: Request) -> None:
        random = self._scheduler.random
        request.fate = random.choice(FAULTS)
        if request.fate is Fate.HELD:
            request.patience = random.randint(0, MAX_PATIENCE)
            if any(each.name == request.name == "InitProducerId" for each in self._held(request)):
                request.fate = Fate.CUT  # one late fence is remembered, not a second
        self._scheduler.note(f"{request}:", request.fate.value)

    def _chance(self, request: Request) -> float:
        """How often one arrives in a step: most do harm into a later transaction."""
        another = self._log.transaction_of(request.owner) not in (None, request.within)
        return 0.1 if another or not self.rate else 0.004

    def _held(self, request: Request) -> list[Request]:
        return [each for each in self._under_way if each.owner == request.owner]

    def _arrive_late(self, request: Request) -> None:
        if request.fate is Fate.HELD:
            self._scheduler.count(f"a late {request.name}")
        self._deliver(request)

    def _deliver(self, request: Request) -> None:
        if request in self._under_way:
            self._under_way.remove(request)
            request.arrive()

    def _time_out(self) -> None:
        now = self._scheduler.steps
        owners = self._log.open_transactions()
        begun = {t: self._begun.get(t, now) for o in owners if (t := self._log.transaction_of(o))}
        self._begun = begun
        for transaction, step in begun.items():
            if now - step > TIMEOUT_STEPS:
                self._scheduler.count("a transaction times out")
                self._log.fence(transaction.owner)
