"""A stage that made things worse is said in words."""

from common.record.reader import RunRecord
from common.record.stages import worse
from tests.builders.records import a_run, a_stage


def record(*figures: dict[str, float]) -> RunRecord:
    stages = [a_stage(stage=i, stage_name=f"s{i}", figures=f) for i, f in enumerate(figures)]
    return RunRecord(a_run(), tuple(stages))


def test_what_is_lower_is_said_with_what_is_higher() -> None:
    (told,) = worse(
        record({"nmi": 0.6, "acc": 0.5, "knn": 0.7}, {"nmi": 0.5, "acc": 0.6, "knn": 0.7})
    )
    assert told == "Stage 2, s1, lowered NMI 0.600 → 0.500; it raised ACC 0.500 → 0.600."


def test_what_is_higher_or_hardly_lower_or_of_another_space_is_not() -> None:
    assert not worse(record({"nmi": 0.6, "silhouette": 0.9}, {"nmi": 0.595, "silhouette": 0.2}))
    assert not worse(record({"nmi": 0.6}))
    assert worse(record({"agreement": 0.6}, {"agreement": 0.4}))
