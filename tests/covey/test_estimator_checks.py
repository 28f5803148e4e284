"""scikit-learn's own checks of an estimator, those that do not hand it tables: it takes images."""

import pytest

import covey

checks = pytest.importorskip("sklearn.utils.estimator_checks")

MEANT = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_get_feature_names_out_error",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)
"""The others fit tables (N, features) of random numbers, of which images cannot be made."""


@pytest.mark.parametrize("name", MEANT)
def test_scikit_learns_own_check(name: str) -> None:
    getattr(checks, name)("ClusterModel", covey.ClusterModel())
