"""Containerfiles, read as stages of instructions, and the rules that ours keep."""

import json
import re
from typing import NamedTuple

EXEC_FORM = ("CMD", "ENTRYPOINT")
SECRET_NAME = re.compile(r"\b\w*(PASSWORD|SECRET|TOKEN|CREDENTIAL|API_?KEY|PRIVATE)\w*=", re.I)


class Instruction(NamedTuple):
    """One instruction, its continued lines joined."""

    name: str
    value: str


def parse(text: str) -> list[list[Instruction]]:
    """The stages; what stands before the first FROM belongs to each."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    stages: list[list[Instruction]] = [[]]
    for line in filter(None, joined.splitlines()):
        name, _, value = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, value.strip()))
    return [stages[0] + stage for stage in stages[1:]]


def values(stage: list[Instruction], name: str) -> list[str]:
    """The values of an instruction in a stage."""
    return [each.value for each in stage if each.name == name]


def pairs(stage: list[Instruction], name: str) -> dict[str, str]:
    """The `key=value` pairs of an instruction (ENV, LABEL, ARG) in a stage."""
    found = {}
    for value in values(stage, name):
        for key, quoted, plain in re.findall(r'([\w.]+)=(?:"([^"]*)"|(\S*))', value):
            found[key] = quoted or plain
    return found


def problems(text: str) -> list[str]:
    """The rules that a Containerfile of ours breaks."""
    stages = parse(text)
    return [
        *_base_problems(stages),
        *_install_problems(stages),
        *_process_problems(stages[-1]),
        *_secret_problems(stages),
    ]


def _base_problems(stages: list[list[Instruction]]) -> list[str]:
    base = pairs(stages[0], "ARG").get("BASE", "")
    found = []
    if not re.fullmatch(r"[\w./-]+:\d[\w.-]*", base):
        found.append(f"the base {base!r} has no version tag")
    for stage in stages:
        [source] = values(stage, "FROM")
        if not source.startswith("${BASE}${DIGEST:+@$DIGEST}"):
            found.append(f"FROM {source}: another base than the one that a digest pins")
    if len(stages) < 2:
        found.append("one stage: the tools that build would be in the image")
    return found


def _install_problems(stages: list[list[Instruction]]) -> list[str]:
    found = []
    for command in (each for stage in stages for each in values(stage, "RUN")):
        for part in command.split("&&"):
            if not re.search(r"\bpip\b.* (install|download|wheel) ", part):
                continue
            if not {"--require-hashes", "--no-index"} & set(part.split()):
                found.append(f"packages without their hashes: {part.strip()}")
    if any(values(stages[-1], "RUN")) and "pip" in " ".join(values(stages[-1], "RUN")):
        found.append("the last stage installs packages")
    found += [f"ADD {value}" for stage in stages for value in values(stage, "ADD")]
    return found


def _process_problems(stage: list[Instruction]) -> list[str]:
    found = []
    user = (values(stage, "USER") or [""])[-1]
    if not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", user):
        found.append(f"USER {user!r} is not a number above 0")
    found += [
        f"{each.name} in the shell form"
        for each in stage
        if each.name in EXEC_FORM and not _is_exec_form(each.value)
    ]
    health = (values(stage, "HEALTHCHECK") or [""])[-1]
    _, _, command = health.partition("CMD ")
    if not _is_exec_form(command):
        found.append("no HEALTHCHECK in the exec form")
    elif {"curl", "wget"} & set(json.loads(command)):
        found.append("HEALTHCHECK by a program that the image does not have")
    if values(stage, "STOPSIGNAL") != ["SIGTERM"]:
        found.append("STOPSIGNAL is not SIGTERM")
    if values(stage, "ENTRYPOINT") != ['["eventfleet"]']:
        found.append("ENTRYPOINT is not eventfleet")
    return found


def _secret_problems(stages: list[list[Instruction]]) -> list[str]:
    return [
        f"a secret: {each.name} {each.value}"
        for stage in stages
        for each in stage
        if each.name in ("ENV", "ARG", "LABEL") and SECRET_NAME.search(f"{each.value}=")
    ]


def _is_exec_form(value: str) -> bool:
    try:
        words = json.loads(value)
    except ValueError:
        return False
    return isinstance(words, list) and bool(words)
