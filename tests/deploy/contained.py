"""Processes in the files of an image, as an engine would start them: another user, no rights, a
root that can't be written to. The namespaces are new for each; the network is the caller's.
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# $0 is the root of the image, $1 what is bound into it, one `source:target` a line.
ENTER = """
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
mount --bind /dev "$0/dev"
mount -t proc proc "$0/proc"
echo "$1" | while IFS=: read -r source target; do
  [ -z "$source" ] || mount --bind "$source" "$0$target"
done
mount -o remount,bind,ro "$0"
root=$0
shift
exec chroot "$root" "$@"
"""
USER = "10001:10001"
FOLDER = "/domains"


def command_in(
    root: Path,
    command: Sequence[str],
    environment: Mapping[str, str],
    user: str = USER,
    binds: Mapping[Path, str] | None = None,
) -> list[str]:
    """The command line that runs a command in the image."""
    uid, _, gid = user.partition(":")
    bound = "\n".join(f"{source}:{target}" for source, target in (binds or {}).items())
    outside = ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGTERM", "sh", "-c", ENTER]
    who = ["--reuid", uid, "--regid", gid, "--clear-groups"]
    rights = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    variables = [f"{name}={value}" for name, value in environment.items()]
    inside = ["setpriv", *who, *rights, "env", "-i", "-C", FOLDER, *variables, *command]
    return [*outside, str(root), bound, *inside]


def start(command: Sequence[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def run(command: Sequence[str], seconds: float = 60.0) -> tuple[int, str]:
    """The status and the output of a command."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )
    return done.returncode, done.stdout
