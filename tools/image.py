"""Builds windflower's container image, with or without a container engine. Standard library only.

    python3 tools/image.py context FOLDER [PLATFORM]   what the Containerfile copies, for a platform
    python3 tools/image.py build LAYOUT:TAG            the image itself, as an OCI layout

`build` reads `deploy/image/Containerfile` and needs root, debootstrap and umoci instead of an
engine. In place of `FROM python:...` it takes Debian's own Python of the same version.
"""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONTEXT = ROOT / "build" / "image"
CONTAINERFILE = ROOT / "deploy" / "image" / "Containerfile"
BASES = {"python:3.11-slim-bookworm": ("bookworm", "python3,ca-certificates")}
LEFTOVERS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")
LISTS = {"ENV": "env", "LABEL": "label"}
WORDS = {"WORKDIR": "workingdir", "USER": "user"}


def main() -> int:
    """Do what was asked for; return the exit code."""
    match sys.argv[1:]:
        case ["context", folder, *platform]:
            make_context(Path(folder), *platform)
        case ["build", image]:
            build(image)
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


def make_context(folder: Path, *platform: str) -> None:
    """Put windflower with all that it needs on AWS into a folder, at the locked versions.

    Args:
        folder: made anew.
        platform: as uv names it, such as aarch64-unknown-linux-gnu; by default this machine's.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "state").mkdir(parents=True)
    uv = shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv")
    pip = [uv, "pip", "install", "--quiet", "--target", str(folder / "packages")]
    pip += [f"--python-platform={name}" for name in platform]
    run(*pip, "--python-version=3.11", "--constraint", str(locked(folder)), f"{ROOT}[aws]")


def locked(folder: Path) -> Path:
    """Return the lock file without this tree's own tools, as constraints."""
    constraints = folder / "constraints.txt"
    constraints.write_text((ROOT / "requirements.lock").read_text())
    return constraints


def build(image: str) -> None:
    """Follow the Containerfile, each line of it a step."""
    layout = image.rpartition(":")[0]
    make_context(CONTEXT)
    umoci("init", "--layout", layout)
    umoci("new", "--image", image)
    for instruction, rest in instructions(CONTAINERFILE.read_text()):
        sys.stderr.write(f"{instruction} {rest}\n")
        step(image, instruction, rest)
    umoci("gc", "--layout", layout)


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Containerfile, in order."""
    lines = [line.strip() for line in text.splitlines()]
    found = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(instruction, rest) for instruction, _, rest in found]


def step(image: str, instruction: str, rest: str) -> None:
    """Carry out one instruction; raises ValueError for those that it does not know."""
    match instruction:
        case "FROM":
            insert(image, base(rest), "/")
        case "COPY":
            copy(image, *shlex.split(rest))
        case "ENV" | "LABEL":
            umoci("config", "--image", image, f"--config.{LISTS[instruction]}", rest)
        case "WORKDIR" | "USER":
            umoci("config", "--image", image, f"--config.{WORDS[instruction]}", rest)
        case "CMD":
            words = [f"--config.cmd={word}" for word in eval_list(rest)]
            umoci("config", "--image", image, *words)
        case _:
            raise ValueError(f"{instruction}: not known here; build with a container engine")


def eval_list(text: str) -> list[str]:
    """Return the words of a list such as ["a", "b"]."""
    return [word.strip().strip('"') for word in text.strip("[]").split(",")]


def base(name: str) -> Path:
    """Make what an image starts from, once."""
    suite, packages = BASES[name]
    folder = ROOT / "build" / f"base-{suite}"
    if not (folder / "usr" / "bin" / "python3").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        what = ("--variant=minbase", f"--include={packages}", suite, str(folder), mirror())
        run("debootstrap", *what)
        for leftover in LEFTOVERS:
            shutil.rmtree(folder / leftover, ignore_errors=True)
    return folder


def mirror() -> str:
    """Return where this machine takes Debian's packages from."""
    policy = subprocess.run(["apt-cache", "policy"], capture_output=True, text=True, check=True)
    rows = [line.split() for line in policy.stdout.splitlines() if "bookworm/main" in line]
    return next(row[1] for row in rows)


def copy(image: str, *words: str) -> None:
    """Add files or a folder as a layer, with the owner that is asked for."""
    *options, source, target = words
    owner = next((o.partition("=")[2] for o in options if o.startswith("--chown=")), "0:0")
    whole = ROOT / source
    layer = ROOT / "build" / "layer"
    shutil.rmtree(layer, ignore_errors=True)
    layer.mkdir(parents=True)
    staged = layer / whole.name
    if whole.is_dir():
        shutil.copytree(whole, staged, symlinks=True)
    else:
        shutil.copy2(whole, staged)
    run("chown", "-R", owner, str(staged))
    insert(image, staged, target)


def insert(image: str, source: Path, target: str) -> None:
    """Add a layer."""
    umoci("insert", "--image", image, str(source), target)


def umoci(*words: str) -> None:
    """Call umoci."""
    run("umoci", *words)


def run(*words: str) -> None:
    """Call a program; raises CalledProcessError."""
    subprocess.run(words, check=True, cwd=ROOT, stdout=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
