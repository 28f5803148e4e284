"""What a person says of the clusters: their names, which are the same, which hold several things.

The gallery writes it as a `names.json`; it is kept in the model's file, and used by `covey assign`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from common.config.options import one_line
from common.learned.facts import LONGEST_NAME, MOST_CLUSTERS, Line
from common.learned.file import FILE, LearnedModel, read_learned
from common.utils.errors import UserError, plain
from common.utils.names import written

LARGEST = 1 << 22  # bytes of a names.json
ONE = re.compile(r"(\d{1,5})=(.*)", re.S)
Cluster = Annotated[NonNegativeInt, Field(lt=MOST_CLUSTERS)]


class Said(BaseModel):
    """A `names.json`. `model`: the identity of the model that it is about; "": of any."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = ""
    names: dict[Cluster, Line] = {}
    same: tuple[tuple[Cluster, ...], ...] = ()
    split: tuple[Cluster, ...] = ()


def model_file(path: Path) -> Path:
    """The `model.covey` itself, or that of a run's folder; `UserError` where there is none."""
    if path.is_dir():
        path = path / FILE
    if not path.exists():
        raise UserError(f"there is no file {path}")
    return path


def read_said(text: str) -> Said:
    """A `names.json`; `UserError` for what is none."""
    if len(text) > LARGEST:
        raise UserError(f"names: {len(text)} characters, at most {LARGEST}")
    try:
        return Said.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"names: {plain(one_line(error))}") from None


def say(path: Path, said: Said) -> LearnedModel:
    """Write it into the model's file; the model as it is then. `UserError` where it is about
    another model, or a cluster that there is not."""
    path = model_file(path)
    learned = read_learned(path)
    if said.model and said.model != learned.identity:
        raise UserError(f"the names are those of another model ({said.model}) than {path}")
    names = list(learned.facts.names)
    for cluster, name in said.names.items():
        if cluster >= len(names):
            raise UserError(f"there is no cluster {cluster}: the model has {len(names)}")
        names[cluster] = name.strip()
    same = [list(group) for group in said.same if len(set(group)) > 1]
    named = learned.with_facts(names=names, same=same, split=sorted(set(said.split)))
    named.write(path)
    return named


def parsed(given: Sequence[str], path: Path) -> Said:
    """What was typed: `names.json` files, and `3=scratch` for single clusters; what the model says
    already of the others stays."""
    facts = read_learned(model_file(path)).facts
    said = Said(same=facts.same, split=facts.split)
    for text in given:
        if ONE.fullmatch(text):
            said = said.model_copy(update={"names": {**said.names, **typed([text])}})
            continue
        try:
            found = read_said(Path(text).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise UserError(f"{text} is neither a file of names nor CLUSTER=NAME") from None
        said = found.model_copy(update={"names": {**said.names, **found.names}})
    return said


def typed(given: Sequence[str]) -> dict[int, str]:
    """Names of single clusters as they were typed: `3=scratch`."""
    found: dict[int, str] = {}
    for text in given:
        one = ONE.fullmatch(text)
        if one is None:
            raise UserError(f"{text!r} is not CLUSTER=NAME")
        name = written(one[2])
        if len(name) > LONGEST_NAME:
            raise UserError(f"a name of {len(name)} characters, at most {LONGEST_NAME}")
        found[int(one[1])] = name
    return found


def as_json(learned: LearnedModel) -> str:
    """What is said of a model, as a `names.json`."""
    facts = learned.facts
    names = {str(number): name for number, name in enumerate(facts.names) if name}
    same = [list(group) for group in facts.same]
    about = {"model": learned.identity, "names": names, "same": same, "split": list(facts.split)}
    return json.dumps(about, indent=2, ensure_ascii=False)
