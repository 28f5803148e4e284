"""The tests of `make test-fast`: a minute at most, imports included, and each room of the house.

    python -m tests.fast [OPTIONS OF PYTEST]

In are: options and recipes, data, views, losses, k-means, messages and their checks on both sides,
aggregation, records, one whole run from the command line to its report, one that is resumed,
invitations and certificates, and what the documents say.

Out are, for their time: federations of processes (`-m federation`), all other whole runs, each
objective against its slow version but for the most used, the limiting cases, the benchmarks' tests,
and the walk-throughs of the documents. `make test` has them all.
"""

import sys

import pytest

FAST = (
    "tests/common/config",
    "tests/common/data",
    "tests/common/protocol",
    "tests/common/record",
    "tests/common/utils",
    "tests/common/clustering",
    "tests/common/test_augmentations.py",
    "tests/common/test_metrics.py",
    "tests/common/losses/test_losses.py",
    "tests/client/storage",
    "tests/client/test_merge.py",
    "tests/client/test_mutated_instructions.py",
    "tests/client/test_site.py",
    "tests/client/test_validation.py",
    "tests/client/test_trainer.py::test_training_changes_every_group_and_counts_the_training_images",
    "tests/client/test_trainer.py::test_the_same_instruction_gives_the_same_bits",
    "tests/server/aggregation/test_aggregation.py",
    "tests/server/aggregation/test_optimisers.py",
    "tests/server/clustering/test_rules.py",
    "tests/server/conversation/test_exchange.py",
    "tests/server/conversation/test_guard.py",
    "tests/server/conversation/test_registration.py",
    "tests/server/conversation/test_validation.py",
    "tests/server/run/test_events.py",
    "tests/server/test_mutated_replies.py",
    "tests/server/test_run.py::test_a_run_leaves_its_settings_metrics_encoder_centroids_and_report",
    "tests/server/test_run.py::test_a_resumed_run_ends_with_the_same_bits[2-in the round]",
    "tests/deploy/cli/test_main.py::test_a_simulation_ends_in_a_table_a_report_and_json",
    "tests/deploy/cli/test_recipes.py",
    "tests/deploy/coordinator/test_folder.py",
    "tests/deploy/identity",
    "tests/deploy/flower/test_bundle.py",
    "tests/test_docs.py",
    "tests/test_names.py",
    "tests/test_security_page.py",
)
SLOW = (  # how tests in the files above begin
    "tests/test_docs.py::test_the_walk_through_of",
    "tests/common/utils/test_logs.py::test_a_command_shows_its_log",
)


def arguments() -> list[str]:
    """What pytest is called with."""
    workers = ["-n", "2", "--dist", "loadfile", "-m", "not federation"]
    return [*workers, *(f"--deselect={name}" for name in SLOW), *FAST]


if __name__ == "__main__":
    sys.exit(pytest.main([*arguments(), *sys.argv[1:]]))
