"""The scenarios of markers' schedules."""

from tests.simulation.marker_world import MarkerScenario

SCENARIOS = {
    "nothing but order": (600, MarkerScenario(late=True)),
    "everything but a loss": (
        1120,
        MarkerScenario(kills=0.01, stalls=0.02, jumps=0.005, faults=0.02, lag=0.01, late=True),
    ),
    "slow owners, markers that expire": (
        900,
        MarkerScenario(clients=4, kills=0.005, stalls=0.03, jumps=0.02, echoes=0.1, late=True),
    ),
    "repeats, a store that is behind": (
        1000,
        MarkerScenario(stalls=0.01, lag=0.03, echoes=0.5, late=True),
    ),
    "who decides the topic's commands stands still": (
        80,
        MarkerScenario(clients=4, commands=4, busy=1500, hesitates=0.5),
    ),
    "three services, two aggregates": (
        800,
        MarkerScenario(services=3, aggregates=2, kills=0.01, stalls=0.02, faults=0.02, losses=1),
    ),
    "who notes stands still, and Redis is flushed": (
        600,
        MarkerScenario(losses=2, freezes=0.3, echoes=0.1),
    ),
    "a domain begins, and Redis is flushed": (
        500,
        MarkerScenario(
            **{"services": 4, "clients": 4, "stalls": 0.03, "begins": 0.7, "freezes": 0.9},
            losses=2,
            echoes=0.1,
            names=("Open", "Note", "Note"),
        ),
    ),
    "Redis is flushed": (
        700,
        MarkerScenario(clients=4, kills=0.01, stalls=0.04, jumps=0.01, faults=0.01, losses=3),
    ),
    "several owners, and Redis is flushed": (
        900,
        MarkerScenario(kills=0.005, stalls=0.02, jumps=0.005, faults=0.01, losses=2, owners=0.02),
    ),
    "clocks step back": (
        800,
        MarkerScenario(kills=0.005, stalls=0.02, jumps=0.02, lag=0.01, late=True, clocks=True),
    ),
    "Redis restarts from an old dump": (
        1100,
        MarkerScenario(
            kills=0.01, stalls=0.02, jumps=0.005, faults=0.02, lag=0.01, losses=1, dumps=2
        ),
    ),
    "append parks, several owners, and Redis is flushed": (
        300,
        MarkerScenario(
            **{"poison": 0.2, "kills": 0.005, "stalls": 0.02, "jumps": 0.005, "faults": 0.01},
            losses=2,
            owners=0.02,
        ),
    ),
    "append parks much, and Redis is flushed": (
        300,
        MarkerScenario(
            **{"clients": 4, "commands": 8, "poison": 0.6, "busy": 3000, "stalls": 0.03},
            **{"jumps": 0.003, "faults": 0.01, "lag": 0.01, "owners": 0.005},
            losses=8,
        ),
    ),
    "append parks, and its owners have two codes": (
        300,
        MarkerScenario(
            **{"clients": 4, "commands": 4, "poison": 0.7, "busy": 3000, "stalls": 0.01},
            **{"owners": 0.01, "slow": 0.8, "echoes": 0.1, "names": ("Note",)},
        ),
    ),
}
