"""What sites have told of models that they were shown, added up to attacks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.config.options import Stage
from common.membership import Success
from common.protocol.parts import ATTACKS
from common.protocol.recall import FORGOTTEN
from common.solvers import SOLVERS
from common.solvers.landmark_spectral import LandmarkSpectral
from deploy.audit.attack import Attack, noise_of

Numbers = Mapping[str, float]
NAMES = {
    "near": "centroids",
    "views": "views in the encoder",
    "projected": "views in the projector",
}


def has_landmarks(stage: Stage) -> bool:
    """Whether the stage is solved by landmarks."""
    return bool(stage.solver) and issubclass(SOLVERS[stage.solver], LandmarkSpectral)


@dataclass(frozen=True)
class Told:
    """`told`: site -> what it tells of each model, in their order (`common/protocol/recall.py`);
    `refused`: site -> why it tells nothing."""

    told: Mapping[str, Sequence[Numbers]]
    refused: Mapping[str, str]

    @property
    def stayed(self) -> int:
        """Images that the forgotten were compared with."""
        return int(sum(models[0].get("stayed", 0) for models in self.told.values()))

    def attacks(self, landmarks: bool = False) -> tuple[Attack, ...]:
        """Those that some site has made, over all sites that have; `landmarks`: whether it is by
        these that images are found near something."""
        called = {**NAMES, "near": "landmarks"} if landmarks else NAMES
        return tuple(self._attack(name, called[name]) for name in ATTACKS if self._sites(name))

    def _sites(self, name: str) -> list[Sequence[Numbers]]:
        return [models for models in self.told.values() if all(name in each for each in models)]

    def _attack(self, name: str, called: str) -> Attack:
        sites = self._sites(name)
        taken = sum(models[0]["taken"] for models in sites)
        stayed = sum(models[0]["stayed"] for models in sites)

        def success(number: int) -> Success:
            found = [models[number] for models in sites]
            return Success(
                sum(each[name] for each in found) / taken,
                sum(each[f"{name}_found"] for each in found) / taken,
            )

        original, forgotten, *without = map(success, range(len(sites[0])))
        about = f"Images that were taken back beside images that stayed, by {ATTACKS[name]}."
        noise = noise_of(int(taken), int(stayed))
        return Attack(called, about, original, forgotten, tuple(without), None, noise)

    def of_sums(self) -> tuple[str, ...]:
        """What the sites say of sums that they have made anew, a sentence each."""
        said = []
        for site, models in sorted(self.told.items()):
            numbers = models[FORGOTTEN - 1]
            if "sums" not in numbers:
                continue
            same, whole = int(numbers["sums_same"]), int(numbers["sums"])
            how = "are" if same == whole else "are not"
            said.append(
                f"{site}: {same} of {whole} sums made anew of what is left {how}, to the bit, the "
                "sums over all less those over the forgotten, and what it had answered."
            )
        return tuple(said)
