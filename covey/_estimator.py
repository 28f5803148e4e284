"""A clustering of images in the manner of scikit-learn, fitted through a simulated federation."""

import inspect
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from common.config import recipes
from common.utils.errors import UserError
from covey._images import Pictures
from covey._model import Model, load
from covey._simulation import Option, simulate

if TYPE_CHECKING:
    from covey._run import Run


class ClusterModel:
    """Clusters of images, and an embedding of them.

    `n_clusters`: K, 0: as many as classes, or 10; `recipe`, `sites`: as `covey.simulate` has them;
    `options`: its other options, by name; `folder`: where the run is kept, None: nowhere. Images
    (`X`) are whatever a `covey.Model` takes (`covey.Pictures`).

    After `fit`: `model_`, a `covey.Model`; `labels_` (N,); `cluster_centers_` (K, d);
    `n_clusters_`; `figures_`. It takes part in pipelines and in `sklearn.base.clone`, without
    scikit-learn being imported here. (scikit-learn's own checks of estimators are for tables of
    numbers, and not for images.)
    """

    def __init__(
        self,
        n_clusters: int = 0,
        *,
        recipe: str = recipes.DEFAULT,
        sites: int = 4,
        options: Mapping[str, Option] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.recipe = recipe
        self.sites = sites
        self.options = options
        self.folder = folder

    @classmethod
    def load(cls, model: "str | Path | Run", device: str = "auto") -> "ClusterModel":
        """One that is fitted already: a `model.covey`, or a finished run."""
        found = load(model, device)
        fitted = cls(len(found.classes_or_names), recipe=found.recipe)
        fitted._take(found)
        return fitted

    def fit(self, X: Pictures, y: object = None) -> "ClusterModel":  # noqa: N803 (scikit-learn's)
        """Run the recipe over simulated sites, which share the images evenly. `y` is not used."""
        given: dict[str, Any] = {"partition": "iid", **(self.options or {})}
        given |= {"sites": self.sites, "clusters": self.n_clusters}
        data: Any = X if isinstance(X, str | Path) else np.asarray(X)
        with tempfile.TemporaryDirectory(prefix="covey-") as scratch:
            folder = Path(scratch) / "run" if self.folder is None else Path(self.folder)
            run = simulate(self.recipe, data, folder=folder, **given)
            self._take(run.model(str(given.get("device", "auto"))))
        self.labels_ = self.predict(X)
        return self

    def predict(self, X: Pictures) -> NDArray[np.int64]:  # noqa: N803
        """The cluster (N,) of each image."""
        return self._fitted().predict(X)

    def transform(self, X: Pictures) -> NDArray[np.float32]:  # noqa: N803
        """The embeddings (N, d), of unit length."""
        return self._fitted().embed(X)

    def fit_predict(self, X: Pictures, y: object = None) -> NDArray[np.int64]:  # noqa: N803
        """Fit, and the cluster of each image."""
        return self.fit(X).labels_

    def fit_transform(self, X: Pictures, y: object = None) -> NDArray[np.float32]:  # noqa: N803
        """Fit, and the embeddings."""
        return self.fit(X).transform(X)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Names (d,) of what `transform` gives: "clustermodel0", "clustermodel1", ..."""
        self._fitted()
        width = self.cluster_centers_.shape[1]
        return np.array([f"clustermodel{number}" for number in range(width)], object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **parameters: Any) -> "ClusterModel":
        """Change some of them; `Error` for a name that is none."""
        for name, value in parameters.items():
            if name not in self._names():
                raise UserError(f"ClusterModel has no parameter {name!r}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"ClusterModel({given})"

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags  # noqa: PLC0415

        return Tags(
            estimator_type="clusterer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(two_d_array=False, three_d_array=True),
        )

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def _take(self, model: Model) -> None:
        centroids = model.centroids
        if centroids is None:
            raise UserError("with batchnorm local each site has centroids of its own")
        self.model_ = model
        self.cluster_centers_ = centroids
        self.n_clusters_ = len(centroids)
        self.figures_ = model.figures

    def _fitted(self) -> Model:
        if not hasattr(self, "model_"):
            raise _not_fitted("this ClusterModel is not fitted yet: call fit(images) first")
        return self.model_


def _not_fitted(text: str) -> UserError:
    """An `Error` that scikit-learn takes for its own."""
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415

    class NotFitted(UserError, NotFittedError):  # type: ignore[misc]
        pass

    return NotFitted(text)
