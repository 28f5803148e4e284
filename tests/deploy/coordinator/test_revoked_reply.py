"""What revoking relies on in Flower: an answer that a site has handed in, and that the run has not
fetched yet, is not handed out once the site is unregistered."""

from dataclasses import dataclass

import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.state.alembic import utils
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager

from deploy.flower.superlink import PathsWithSpaces

pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found")  # Flower's own


@dataclass
class Place:
    """A SuperLink's database with one site, one run, and the site's answer to one message."""

    state: object
    node: int
    run: int
    asked: str


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(utils, "Config", PathsWithSpaces)  # as in our SuperLink
    objects = ObjectStoreFactory(str(tmp_path / "superlink.db"))
    factory = LinkStateFactory(str(tmp_path / "superlink.db"), NoOpFederationManager(), objects)
    state = factory.state()
    node = state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, b"key", 30.0, name="north")
    assert state.activate_node(node, 30.0)
    run = state.create_run(
        "covey/covey-run", "1", "0" * 64, {}, NOOP_FEDERATION_ID, None, "", TaskType.SERVER_APP
    )
    for name, value in {"_run_id": run, "_node_id": 1, "_task_id": 1}.items():
        monkeypatch.setattr(TaskIdentity, name, value)
    message = stored(Message(RecordDict(), node, "train"))
    asked = state.store_message_ins(message)
    assert asked
    monkeypatch.setattr(TaskIdentity, "_node_id", node)
    assert state.store_message_res(stored(Message(RecordDict(), reply_to=message)))
    return Place(state, node, run, asked)


def stored(message):
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def test_the_answer_of_a_site_is_handed_out(place):
    (answer,) = place.state.get_message_res({place.asked}, place.run)
    assert not answer.has_error() and answer.metadata.src_node_id == place.node


def test_the_answer_of_a_site_revoked_since_is_not(place):
    place.state.delete_node(NOOP_FLWR_AID, place.node)
    (answer,) = place.state.get_message_res({place.asked}, place.run)
    assert answer.has_error()
    assert place.state.get_node_id_by_public_key(b"key") is None  # whose requests get a 401
