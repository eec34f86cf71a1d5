"""The Containerfiles, read without building them; `make check-image` builds and runs the image."""

import importlib.util
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from eventfleet.runtime.settings import PREFIX, Settings, variable
from eventfleet.testing import given
from tests.deploy.containerfile import pairs, parse, problems, values
from tests.deploy.install import HADOLINT
from tests.deploy.programs import found, output

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy" / "image" / "Containerfile"
IGNORE = CONTAINERFILE.with_name("Containerfile.dockerignore")
TEAM = ROOT / "examples" / "team_image"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXT = CONTAINERFILE.read_text()

# What is changed in our Containerfile, and a part of what the check then says.
PLANTED = [
    ("python:3.11-slim-bookworm", "python", "no version tag"),
    ("python:3.11-slim-bookworm", "python:latest", "no version tag"),
    ("FROM ${BASE}${DIGEST:+@$DIGEST}\n", "FROM python:3.11\n", "another base"),
    ("--require-hashes ", "", "without their hashes"),
    ("--no-index --find-links wheels eventfleet", "eventfleet", "without their hashes"),
    ("USER 10001:10001", "USER eventfleet", "is not a number above 0"),
    ("USER 10001:10001", "USER 0", "is not a number above 0"),
    ("USER 10001:10001\n", "", "is not a number above 0"),
    ('ENTRYPOINT ["eventfleet"]', "ENTRYPOINT eventfleet", "ENTRYPOINT in the shell form"),
    ('["eventfleet", "health"]', "eventfleet health", "no HEALTHCHECK in the exec form"),
    ('["eventfleet", "health"]', '["curl", "localhost"]', "does not have"),
    ("STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL", "STOPSIGNAL"),
    ("ARG VERSION", "ARG INDEX_PASSWORD\nARG VERSION", "a secret"),
    ("WORKDIR /domains", "RUN pip install --no-index extra\nWORKDIR /domains", "the last stage"),
]
# The same for hadolint, with the rule that finds it.
LINTED = [
    ('ENTRYPOINT ["eventfleet"]', "ENTRYPOINT eventfleet", "DL3025"),
    ("RUN python -m venv tools", "RUN apt-get update && apt-get install -y gcc", "DL3008"),
    ("RUN python -m venv tools", "RUN cd /build", "DL3003"),
    ("WORKDIR /build", "WORKDIR build", "DL3000"),
    ("FROM ${BASE}${DIGEST:+@$DIGEST}\n", "FROM python:latest\n", "DL3007"),
    ("STOPSIGNAL SIGTERM", 'CMD ["a"]', "DL4003"),
]


def planted(before: str, after: str) -> str:
    """Our Containerfile with a fault; what is replaced must be there."""
    assert before in TEXT
    return TEXT.replace(before, after)


def test_the_containerfile_keeps_its_rules() -> None:
    assert problems(TEXT) == []


@pytest.mark.parametrize(("before", "after", "said"), PLANTED)
def test_each_rule_is_checked(before: str, after: str, said: str) -> None:
    assert said in "\n".join(problems(planted(before, after)))


def test_hadolint_finds_nothing() -> None:
    program = found(HADOLINT.path)
    assert output(program, CONTAINERFILE, TEAM / "Containerfile") == ""


def test_hadolint_finds_planted_faults(tmp_path: Path) -> None:
    program = found(HADOLINT.path)
    for number, (before, after, rule) in enumerate(LINTED):
        file = tmp_path / f"{number}.Containerfile"
        file.write_text(planted(before, after))
        assert rule in output(program, file, status=None), (before, after)


def test_the_environment_holds_settings_only() -> None:
    ours = {name for name in pairs(parse(TEXT)[-1], "ENV") if name.startswith(PREFIX)}
    assert ours
    assert ours <= {variable(field) for field in Settings.model_fields}


def test_labels_name_the_release() -> None:
    assert pairs(parse(TEXT)[-1], "ARG")["VERSION"] == PROJECT["version"]


def test_ports_are_those_of_the_settings() -> None:
    [exposed] = values(parse(TEXT)[-1], "EXPOSE")
    fields = (Settings.model_fields["metrics_port"], Settings.model_fields["http_port"])
    assert exposed.split() == [str(field.default) for field in fields]


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    copied = {
        name
        for stage in parse(TEXT)
        for value in values(stage, "COPY")
        if "--from" not in value
        for name in value.split()[:-1]
    }
    lines = [line for line in IGNORE.read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
    left_out = [line for line in lines[1:] if not line.startswith("!")]
    assert any(fnmatch("eventfleet/__pycache__", line.replace("**", "*")) for line in left_out)


def packages(lock: str) -> dict[str, str]:
    """The packages of a lock file, each with its version, marker and hashes."""
    text = (ROOT / lock).read_text().replace("\\\n", "")
    return {line.split(";")[0].split(" ")[0]: line for line in text.splitlines() if line}


def test_the_lock_of_the_image_names_hashes_of_all_dependencies() -> None:
    ours = packages("requirements.lock")
    assert all("--hash=sha256:" in line for line in ours.values())
    names = {name.partition("==")[0] for name in ours}
    extras = PROJECT["optional-dependencies"]
    assert {name_of(each) for each in (*PROJECT["dependencies"], *extras["build"])} <= names


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_the_team_image_adds_its_domain_to_ours() -> None:
    [stage] = parse((TEAM / "Containerfile").read_text())
    assert pairs(stage, "ARG")["EVENTFLEET"] == f"eventfleet:{PROJECT['version']}"
    assert values(stage, "FROM") == ["${EVENTFLEET}"]
    [workdir] = values(parse(TEXT)[-1], "WORKDIR")
    assert values(stage, "COPY") == [f"parcels.py {workdir}/"]
    assert pairs(stage, "ENV") == {f"{PREFIX}DOMAINS": "parcels"}
    assert f"```python\n{(TEAM / 'parcels.py').read_text()}```" in (ROOT / "README.md").read_text()
    spec = importlib.util.spec_from_file_location("parcels", TEAM / "parcels.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given(module.parcels).when(module.Post(grams=5)).then(module.Posted(grams=5))
