"""What an invited site that means harm can do in a run; then, what the server that was attacked,
here and in `test_network.py`, has left lying about."""

import re

import pytest

from tests.builders.records import events
from tests.deploy.helpers import until
from tests.intruders.place import PATIENCE
from tests.intruders.rogue import TRICKS, Rogue

pytestmark = [pytest.mark.federation, pytest.mark.timeout(1200)]
SMALL = ("--local-epochs", "1", "--encoder", "small-convnet", "--quorum", "0.5")
SECRET_FILES = re.compile(r"ca\.key|server\.key|.*\.secret|key|.*\.covey|superlink\.db.*")


@pytest.fixture(scope="module")
def attacked(place):
    """A run in which the site `rogue` tries one thing after the other; (its folder, the site)."""
    rogue = Rogue(place.invitation("rogue"), TRICKS)
    try:
        inside = place.server.control(10.0)
        until(lambda: inside.sites()["rogue"] == "online", PATIENCE)
        before = set(place.server.runs.iterdir())
        rounds = str(len(TRICKS))
        options = ("--rounds", rounds, "--sites", "2", *SMALL)
        place.covey.start("attacked", "submit", "fedsimclr", "--server", "server", *options)
        until(lambda: place.collect_tokens() or place.ended("attacked"), PATIENCE)
    finally:
        rogue.leave()
    (run,) = set(place.server.runs.iterdir()) - before
    return run, rogue


REASONS = {
    "sends_no_record": "its answer cannot be read",
    "sends_a_bomb": "its answer cannot be read: MemoryError",
    "sends_nan": "groups.encoder: has NaN",
    "takes_anothers_name": "it calls itself 'north'",
    "answers_another_round": "it answers train of round 1000",
    "sends_control_characters": "<script>alert(1)</script>: not asked for",
    "answers_another_run": "its answer cannot be read",
    "answers_twice": "vectors.sum: missing",
}


@pytest.mark.parametrize("trick", [trick.__name__ for trick in TRICKS])
def test_in_a_run_an_invited_site(attacked, trick):
    run, rogue = attacked
    number = rogue.done.index(trick) + 1
    (event,) = [event for event in events(run, "round") if event["round"] == number]
    assert event["answered"] == ["north"]
    assert REASONS[trick] in event["refused"]["rogue"], event["refused"]
    assert event["refused"]["rogue"].isprintable()


def test_the_run_that_was_attacked_ends_as_any_other(place, attacked):
    run, _ = attacked
    assert place.covey.started["attacked"].returncode == 0, place.covey.said("attacked")
    assert (run / "encoder.safetensors").exists()
    page = (run / "report.html").read_text()
    assert "<script>" not in page and "\x1b" not in page
    assert "\x1b" not in (run / "metrics.jsonl").read_text().replace("\\u001b", "\x1b")


def test_after_all_that_a_site_still_works_and_no_process_has_ended(place, attacked):
    options = ("--rounds", "1", "--sites", "1", *SMALL)
    place.covey.start("after", "submit", "fedsimclr", "--server", "server", *options)
    until(lambda: place.ended("after"), PATIENCE)
    assert place.covey.started["after"].returncode == 0, place.covey.said("after")
    assert "over 1 sites" in place.covey.said("after")
    assert "a process ended" not in place.covey.said("server")
    assert "a process ended" not in place.covey.said("north")


def private_lines(folder):
    """Every line of every private key below `folder`, and every shared secret."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and SECRET_FILES.fullmatch(path.name) and path.suffix != ".db":
            text = path.read_text(errors="replace")
            keys = re.findall(r"-+BEGIN[^-]*PRIVATE KEY-+(.*?)-+END", text, re.DOTALL)
            found |= {line for key in keys for line in key.split() if len(line) > 30}
            if path.suffix == ".secret":
                found.add(text.strip())
    return found


def test_files_with_a_private_key_or_a_secret_are_their_owners_alone(place):
    secret = [
        path
        for path in place.folder.rglob("*")
        if path.is_file() and (b"PRIVATE KEY" in path.read_bytes() or path.suffix == ".secret")
    ]
    assert {path.name for path in secret} >= {
        "ca.key", "server.key", "superexec.secret", "key", "north.covey",
    }  # fmt: skip
    for path in secret:
        assert path.stat().st_mode & 0o777 == 0o600, path
        if path.parent != place.folder:  # an invitation lies where the coordinator wants it
            assert path.parent.stat().st_mode & 0o777 == 0o700, path.parent


def test_nothing_secret_is_in_logs_reports_run_folders_or_on_a_screen(place, attacked):
    secrets = private_lines(place.folder)
    assert len(secrets) > 20
    assert place.tokens, "Flower's tasks were seen without a token"
    looked = 0
    for path in place.folder.rglob("*"):
        if not path.is_file() or SECRET_FILES.fullmatch(path.name):
            continue
        looked += 1
        content = path.read_bytes()
        for secret in secrets | place.tokens:
            assert secret.encode() not in content, (path, secret[:8])
    assert looked > 30
    logs = place.server.logs.joinpath("front.log").stat().st_size
    assert logs < 10 * 2**20
