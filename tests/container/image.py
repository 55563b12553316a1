"""Builds and runs the stages of the Dockerfile without Docker: as root on Linux, inside `unshare --mount`.

A stage is an overlay over the stage it starts from. In the place of the base image there is this machine, with
the Python that runs this at /usr/local, where the base image has its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from tests.container.dockerfile import ROOT, Instruction, stages

_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
_ONLY_FOR_AN_ENGINE = {"EXPOSE", "LABEL", "STOPSIGNAL"}


@dataclass
class Image:
    """The file system of a stage, mounted at ``root``, and how a container of it is started."""

    root: Path
    layers: tuple[Path, ...]
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _SEARCH_PATH})
    directory: str = "/"
    user: str = "0:0"
    entrypoint: Sequence[str] = ()
    healthcheck: Sequence[str] = ()

    def make_read_only(self) -> None:
        _run("mount", "-o", "remount,ro", self.root)

    def command(self, words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """What starts ``words`` as process 1 of a container: its user, no capability, nothing of our environment."""
        user, group = self.user.split(":")
        return [
            *("unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={self.root}/proc"),
            *("chroot", str(self.root)),
            *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"),
            *("--inh-caps=-all", "--bounding-set=-all"),
            *self._in_place(environment),
            *words,
        ]

    def build_step(self, shell_command: str) -> None:
        _run("chroot", self.root, *self._in_place(_of_this_machine()), "/bin/sh", "-c", shell_command)

    def _in_place(self, environment: Mapping[str, str]) -> list[str]:
        variables = {**self.environment, **environment}
        start = ["env", "--ignore-environment", f"--chdir={self.directory}"]
        return [*start, *(f"{name}={value}" for name, value in variables.items())]


class Builder:
    """Builds each stage at most once, below ``work``."""

    def __init__(self, work: Path) -> None:
        _run("mount", "-t", "tmpfs", "none", work)  # an overlay must not lie in what it lies over
        self._work = work
        self._stages = stages()
        self._images: dict[str, Image] = {}

    def build(self, name: str) -> Image:
        """The stage of this name; a name that no stage has is that of the base image."""
        if name not in self._images:
            self._images[name] = self._stage(name) if name in self._stages else self._machine()
        return self._images[name]

    def _stage(self, name: str) -> Image:
        stage = self._stages[name]
        base = self.build(stage.base)
        image = self._mounted(name, base.layers)
        image.environment = dict(base.environment)
        image.directory, image.user = base.directory, base.user
        for instruction in stage.instructions:
            self._apply(image, instruction)
        return image

    def _machine(self) -> Image:
        image = self._mounted("machine", (Path("/"),))
        for parent in list(Path(sys.base_prefix).parents)[:-1]:  # a Python below /root is still for everyone
            inside = image.root / parent.relative_to("/")
            inside.chmod(inside.stat().st_mode | 0o011)
        _run("chroot", image.root, f"{sys.base_prefix}/bin/python3", "-m", "venv", "--clear", "/usr/local")
        return image

    def _mounted(self, name: str, lower: tuple[Path, ...]) -> Image:
        root, upper, scratch = (self._work / name / part for part in ("root", "upper", "scratch"))
        for directory in (root, upper, scratch):
            directory.mkdir(parents=True)
        layers = ":".join(map(str, lower))
        _run("mount", "-t", "overlay", "-o", f"lowerdir={layers},upperdir={upper},workdir={scratch}", "none", root)
        _run("mount", "--rbind", "/dev", root / "dev")
        return Image(root, (upper, *lower))

    def _apply(self, image: Image, instruction: Instruction) -> None:
        match instruction.name:
            case "WORKDIR":
                image.directory = instruction.arguments
                _inside(image, ".").mkdir(parents=True, exist_ok=True)
            case "COPY":
                self._copy(image, instruction.arguments.split())
            case "RUN":
                image.build_step(instruction.arguments)
            case _:
                _tell(image, instruction)

    def _copy(self, image: Image, words: list[str]) -> None:
        origin = ROOT
        if words[0].startswith("--from="):
            origin = self.build(words.pop(0).removeprefix("--from=")).root
        *sources, target = words
        for source in sources:
            _copy(origin / source.lstrip("/"), _inside(image, target))


def _tell(image: Image, instruction: Instruction) -> None:
    """Takes down how a container is started."""
    match instruction.name:
        case "ENV":
            for name, value in instruction.pairs().items():
                image.environment[name] = Template(value).substitute(image.environment)
        case "USER":
            image.user = instruction.arguments
        case "ENTRYPOINT":
            image.entrypoint = instruction.exec_form()
        case "HEALTHCHECK":
            image.healthcheck = instruction.exec_form()
        case name:
            assert name in _ONLY_FOR_AN_ENGINE, f"{name} is not known here"


def _inside(image: Image, path: str) -> Path:
    return image.root / (Path(image.directory) / path).relative_to("/")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _of_this_machine() -> dict[str, str]:
    """How this machine reaches packages, which a build with Docker is told too."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "_proxy" in name.lower()}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True)
