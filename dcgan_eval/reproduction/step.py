"""A step is a command that anyone could type; it is finished when its outputs were made of these very inputs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from dcgan_eval.images import open_images
from dcgan_eval.models.checkpoint import load
from dcgan_eval.runtime.errors import InputError

RECIPE = 2  # of what the commands compute; raise it when a finished step would give other numbers
FOLDER = "{folder}"  # in an argument: where the reproduction lies


@dataclass(frozen=True)
class Source:
    """Something that a step reads. spec: as a user writes it, '' for a checkpoint that nobody named. remedy: how to get
    it, where it is missing."""

    kind: Literal["images", "checkpoint"]
    spec: str
    remedy: str


@dataclass(frozen=True)
class Step:
    """name: of its files. argv: of `dcgan-eval`, or of `python -m training`. options: more of it, that changes no
    number: where things lie, and the device. reads: what decides its outputs besides argv. seconds: about what it takes
    on `running.REFERENCE`. outputs: files that are there when it is finished. copied: a picture that the command writes
    elsewhere than among the figures. after: the step that makes one of those that it reads. resumes: the file or folder
    that it goes on from when it was stopped."""

    name: str
    title: str
    argv: tuple[str, ...]
    options: tuple[str, ...]
    reads: tuple[Source, ...]
    seconds: float
    outputs: tuple[str, ...]
    copied: str | None = None
    program: Literal["dcgan-eval", "training"] = "dcgan-eval"
    after: str | None = None
    resumes: str | None = None


@dataclass(frozen=True)
class State:
    """Where a step stands. identity: the hash of its inputs, '' where one is missing. why: what is missing, and how to
    get it, or what it waits for."""

    status: Literal["finished", "to do", "waits", "missing"]
    identity: str = ""
    why: str = ""


def marker(folder: Path, step: Step) -> Path:
    """Written when all else is: the hash of what the step was made of, its command, and how long it took."""
    return folder / "steps" / f"{step.name}.json"


def rows_file(folder: Path, name: str) -> Path:
    return folder / "steps" / f"{name}.csv"


class Inspector:
    """Says where steps stand. What was read is remembered, since several read the same data."""

    def __init__(self, folder: Path, data_root: Path, download: bool) -> None:
        self.folder, self.data_root, self.download = folder, data_root, download
        self._known: dict[Source, str] = {}

    def __call__(self, step: Step, plan: Mapping[str, Step]) -> State:
        """plan: its steps by name."""
        before = plan.get(step.after or "")
        if before is not None:
            state = self(before, plan)
            if state.status == "missing":
                return state
            if state.status != "finished":
                return State("waits", why=f"for: {before.title}")
        identities, missing = [], []
        for source in step.reads:
            try:
                identities.append(self._identity(source))
            except InputError as error:
                missing.append("; ".join(filter(None, [str(error), source.remedy])))
        if missing:
            return State("missing", why=". And ".join(missing))
        parts = [RECIPE, version("dcgan-eval"), step.program, step.argv, identities]
        identity = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        there = all((self.folder / output).is_file() for output in step.outputs)
        done = there and finished(self.folder, step).get("inputs") == identity
        return State("finished" if done else "to do", identity)

    def _identity(self, source: Source) -> str:
        """SHA-256 of what a source holds. Raises InputError where it cannot be read."""
        if not source.spec:
            raise InputError("no checkpoint is named")
        if source not in self._known:
            spec = source.spec.replace(FOLDER, str(self.folder))
            if source.kind == "checkpoint":
                self._known[source] = load(spec).sha256
            else:
                sets = open_images(spec, root=self.data_root, download=self.download)
                self._known[source] = " ".join(f"{name} {images.fingerprint}" for name, images in sorted(sets.items()))
        return self._known[source]


def finished(folder: Path, step: Step) -> dict[str, object]:
    """What the step's marker holds."""
    return read_marker(marker(folder, step))


def read_marker(path: Path) -> dict[str, object]:
    """{} where there is none, or one that was cut short."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
