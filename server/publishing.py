"""What a run is for: its networks and centroids, as files of the run's folder."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.learned.facts import facts_of
from common.learned.file import FILE, LearnedModel, kept_or, learned
from common.protocol.messages import Floats
from common.record.reader import read_run
from common.utils.files import note
from server.strategy import CoveyStrategy


def publish(strategy: CoveyStrategy, names: Sequence[str] = ()) -> LearnedModel | None:
    """Write `model.covey`, and its parts as `encoder.safetensors`, `centroids.safetensors` and,
    where the centroids lie in the projector's space, `projector.safetensors`. `names`: what the
    first clusters are called already, "" where nothing; where the same model is there already, what
    was said of its clusters stays.

    Returns the model; None, and no `model.covey`, where the run has diverged: it holds numbers
    alone.
    """
    plan, state, folder = strategy.plan, strategy.state, strategy.folder
    last = len(plan.stages) - 1
    site = next(iter(strategy.roster.sites.values()))
    facts = note(
        {
            "encoder": plan.encoder,
            "channels": site.channels,
            "side": site.side,
            "recipe": plan.recipe,
            "rounds": state.round,
        }
    )
    modules = {"encoder": strategy.model.encoder_tensors(last, state.groups)}
    if plan.stages[last].embedding == "projector":
        state_dict = strategy.model.of(last).projector.state_dict()  # filled with the above
        modules["projector"] = {name: tensor.float().numpy() for name, tensor in state_dict.items()}
    for name, tensors in modules.items():
        folder.write(f"{name}.safetensors", save(tensors, metadata=facts))
    if state.centroids is None:
        return None
    points, counts = state.centroids.points, state.centroids.counts
    arrays: dict[str, NDArray[Any]] = {"points": points, "counts": counts}
    folder.write("centroids.safetensors", save(arrays, metadata=facts))
    if not all(map(_is_finite, (modules["encoder"], modules.get("projector", {})))):
        return None
    found = facts_of(read_run(folder.path))
    called = [old or new for old, new in zip_longest(names, found.names, fillvalue="")]
    model = learned(found.model_copy(update={"names": tuple(called)}), modules, state.centroids)
    model = kept_or(folder.path / FILE, model)
    model.write(folder.path / FILE)
    return model


def _is_finite(tensors: dict[str, Floats]) -> bool:
    return all(bool(np.isfinite(tensor).all()) for tensor in tensors.values())
