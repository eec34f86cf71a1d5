"""The scenarios of projections' schedules."""

from tests.simulation.projection_code import OF_VERSION_TWO
from tests.simulation.projection_world import ProjectionScenario

SCENARIOS = {
    "one owner at a time": (
        400,
        ProjectionScenario(events=25, kills=0.003, faults=0.005, rebuilds=0.015),
    ),
    "owners of several versions": (
        800,
        ProjectionScenario(
            owners=0.01,
            kills=0.005,
            pauses=0.05,
            late_notes=0.1,
            faults=0.01,
            rebuilds=0.005,
            rewinds=0.002,
            repeats=0.1,
            days=0.001,
            fleet=("one", "two", "two", "neither"),
        ),
    ),
    "owners stand still": (
        700,
        ProjectionScenario(
            events=30, pauses=0.01, late_notes=0.5, rebuilds=0.01, fleet=("two", "neither")
        ),
    ),
    "owners of one version": (
        500,
        ProjectionScenario(owners=0.005, pauses=0.05, faults=0.02, rebuilds=0.01, repeats=0.1),
    ),
    "owners stand still amid many events": (
        100,
        ProjectionScenario(30, 5, busy=1_200, pauses=0.1),
    ),
    "repeats": (
        400,
        ProjectionScenario(
            *(20, 5), owners=0.01, kills=0.01, pauses=0.02, faults=0.01, repeats=0.4
        ),
    ),
    "one owner at a time, which parks": (
        200,
        ProjectionScenario(
            *(20, 2),
            kills=0.02,
            faults=0.03,
            rebuilds=0.01,
            poison=0.15,
            deployments=0.03,
            fleet=("poisoned one", "poisoned two"),
        ),
    ),
    "an owner whose code is mended and set back": (
        200,
        ProjectionScenario(
            *(10, 3),
            kills=0.02,
            faults=0.05,
            poison=0.1,
            deployments=0.2,
            fleet=("poisoned two",),
        ),
    ),
    "owners that do not keep all views, and a redrive": (
        100,
        ProjectionScenario(
            *(30, 3),
            busy=2_000,
            owners=0.01,
            poison=0.06,
            deployments=0.03,
            fleet=("poisoned two", "neither"),
        ),
    ),
    "owners of several versions, which park": (
        300,
        ProjectionScenario(
            owners=0.01,
            kills=0.005,
            pauses=0.05,
            late_notes=0.1,
            faults=0.01,
            rebuilds=0.005,
            rewinds=0.002,
            repeats=0.1,
            days=0.002,
            poison=0.15,
            deployments=0.02,
            fleet=("poisoned one", "poisoned two", "poisoned two", "neither"),
        ),
    ),
    "a deployment whose code raises is taken back": (
        100,
        ProjectionScenario(
            *(20, 3),
            kills=0.01,
            faults=0.01,
            poison=0.2,
            fleet=("poisoned one", "poisoned two"),
            code=OF_VERSION_TWO,
            rolls_back=True,
        ),
    ),
    "late requests": (
        100,
        ProjectionScenario(
            owners=0.005,
            kills=0.01,
            pauses=0.02,
            faults=0.01,
            rebuilds=0.005,
            late=0.1,
            fleet=("one", "two", "two", "neither"),
        ),
    ),
    "late requests of owners that park": (
        200,
        ProjectionScenario(
            *(14, 3),
            kills=0.01,
            faults=0.01,
            poison=0.2,
            deployments=0.2,
            late=0.1,
            fleet=("poisoned two",),
        ),
    ),
    "a view without totals is redriven": (
        100,
        ProjectionScenario(
            *(15, 2),
            busy=3_000,
            kills=0.01,
            faults=0.03,
            poison=0.2,
            deployments=0.005,
            fleet=("poisoned two",),
            code="trail",
        ),
    ),
    "offsets are set back, days pass": (
        400,
        ProjectionScenario(
            *(20, 2),
            owners=0.005,
            kills=0.01,
            pauses=0.03,
            faults=0.01,
            rebuilds=0.003,
            rewinds=0.01,
            repeats=0.2,
            days=0.01,
        ),
    ),
}
