"""`covey.ClusterModel` among scikit-learn's own tools."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

import covey
from common.data import load

OPTIONS = {"rounds": 1, "local_epochs": 1, "batch_size": 32, "encoder": "small-convnet"}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load("digits", images=160)
    return data.images[:, 0], data.labels


def made(**more: object) -> covey.ClusterModel:
    options = {**OPTIONS, "device": "cpu"}
    return covey.ClusterModel(6, recipe="fedsimclr", sites=2, options=options, **more)


def test_it_is_fitted_through_a_simulation_and_predicts_as_its_model(digits, tmp_path) -> None:
    images, _ = digits
    estimator = made(folder=tmp_path / "run")
    labels = estimator.fit_predict(images)
    assert np.array_equal(labels, estimator.predict(images)) and set(labels) <= set(range(6))
    model = covey.load(tmp_path / "run", "cpu")
    assert np.array_equal(labels, model.predict(images))
    points = estimator.transform(images)
    assert np.array_equal(points, model.embed(images))
    names = estimator.get_feature_names_out()
    assert len(names) == points.shape[1] and names[1] == "clustermodel1"
    assert estimator.n_clusters == estimator.n_clusters_ == 6
    assert estimator.cluster_centers_.shape == (6, points.shape[1])
    assert 0 <= estimator.figures_["agreement"] <= 1
    check_is_fitted(estimator)
    loaded = covey.ClusterModel.load(tmp_path / "run" / "model.covey", "cpu")
    assert np.array_equal(loaded.predict(images), labels) and loaded.n_clusters == 6


def test_it_is_cloned_and_stands_in_a_pipeline(digits) -> None:
    images, labels = digits
    first = made()
    copy = clone(first)
    assert copy is not first and repr(copy) == repr(first)
    assert copy.set_params(sites=3).get_params()["sites"] == 3 and first.sites == 2
    pipeline = make_pipeline(made(), LogisticRegression(max_iter=500))
    pipeline.fit(images[:120], labels[:120])
    assert pipeline.score(images[120:], labels[120:]) > 0.3  # of ten classes


def test_what_is_wrong_is_one_line(digits) -> None:
    with pytest.raises(covey.Error, match="not fitted yet"):
        covey.ClusterModel().predict(digits[0])
    with pytest.raises(covey.Error, match="has no parameter 'k'"):
        covey.ClusterModel().set_params(k=3)
