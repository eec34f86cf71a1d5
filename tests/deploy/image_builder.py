"""Builds images with buildah, without an engine, on a Debian base in place of the real one."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.install import CACHE, Absent, need, say

ROOT = Path(__file__).parents[2]
STORE = CACHE / "images"
BASE = "localhost/eventfleet-base:bookworm"
BASE_PACKAGES = "python3-venv,python-is-python3,ca-certificates"
CERTIFICATES = "/etc/ssl/certs"
PIP_CONF = "[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n"
LIMIT_SECONDS = 1200.0


def prepare() -> None:
    """Installs the programs, and makes the base once."""
    if os.geteuid() != 0:
        raise Absent("images are built by root")
    programs = {"buildah": "buildah", "debootstrap": "debootstrap", "unshare": "util-linux"}
    need({**programs, "prometheus": "prometheus", "ip": "iproute2", "curl": "curl"})
    STORE.mkdir(parents=True, exist_ok=True)
    buildah("rm", "--all")  # what an interrupted run has left
    buildah("rmi", "--prune", "--force")
    if BASE not in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        say("making a Debian base for images: about two minutes, once")
        _make_base()


def buildah(*arguments: str | Path, status: int | None = 0) -> str:
    """What buildah prints; it must end with this status, if there is one."""
    place = ("--storage-driver", "vfs", "--root", STORE / "root", "--runroot", STORE / "run")
    return call("buildah", *place, *arguments, status=status)


def call(*command: str | Path, status: int | None = 0) -> str:
    """What a program prints; it must end with this status, if there is one."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
    )
    assert status is None or done.returncode == status, f"{command}:\n{done.stdout[-4000:]}"
    return done.stdout


def build(
    tag: str,
    containerfile: Path,
    context: Path,
    arguments: Mapping[str, str],
    status: int | None = 0,
) -> str:
    """Builds an image; returns what was printed."""
    ignore = containerfile.with_name(f"{containerfile.name}.dockerignore")
    options: list[str | Path] = ["--pull-never", "--layers=false", "--format", "docker"]
    options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
    options += ["--ignorefile", ignore] if ignore.exists() else []
    pip_conf = STORE / "pip.conf"
    pip_conf.write_text(PIP_CONF)
    options += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    options += ["--volume", f"{pip_conf}:/etc/pip.conf:ro"]
    return buildah("build", *options, "--tag", tag, "--file", containerfile, context, status=status)


def base_arguments() -> dict[str, str]:
    """The arguments that name the base, pinned by its digest."""
    found = buildah("images", "--digests", "--format", "{{.Digest}}", BASE)
    return {"BASE": BASE, "DIGEST": found.strip()}


def inspect(tag: str) -> dict[str, Any]:
    """The configuration of an image."""
    found: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", tag))
    config: dict[str, Any] = found["Docker"]["config"]
    return config


@contextmanager
def mounted(tag: str) -> Iterator[Path]:
    """The files of an image, in a container that is removed at the end."""
    container = buildah("from", "--pull-never", tag).strip()
    try:
        yield Path(buildah("mount", container).strip())
    finally:
        buildah("rm", container)


def _make_base() -> None:
    with tempfile.TemporaryDirectory(dir=STORE) as folder:
        files, archive = Path(folder) / "files", Path(folder) / "files.tar"
        options = ("--variant=minbase", f"--include={BASE_PACKAGES}")
        call("debootstrap", *options, "bookworm", files)
        caches = ("--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*")
        call("tar", "--create", "--file", archive, *caches, "--directory", files, ".")
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", container, archive, "/")
        buildah("commit", "--quiet", "--rm", container, BASE)
