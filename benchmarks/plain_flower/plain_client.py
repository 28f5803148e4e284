"""A plain ClientApp: builds the model and loads the data for every message, as `flwr new` does."""

from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from plain_task import fit, load_images, make_net, nt_xent

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """One local epoch; the whole state dict goes back."""
    net = make_net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    images, _ = load_images(Path(str(context.node_config["data"])))
    loss = fit(net, images)
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(images)})
    content = {"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}
    return Message(RecordDict(content), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The loss on the images that were held out."""
    net = make_net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    _, images = load_images(Path(str(context.node_config["data"])))
    with torch.no_grad():
        loss = float(nt_xent(net.eval(), images))
    metrics = MetricRecord({"eval_loss": loss, "num-examples": len(images)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
