"""The model card of an exported model: what it is, what it takes and gives, what is known of it."""

from common.config.options import Plan
from common.record.metrics import FIGURES
from deploy.using.model import Opened
from deploy.using.timm_model import timm_model

LOADING = {
    "timm": """\
```python
import timm
encoder = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder))
embeddings = torch.nn.functional.normalize(encoder(transform(picture)[None]))
```

It is the encoder alone, which takes images that are standardised, `(image - mean) / std`, as
`transform` does.
""",
    "onnx": """\
```python
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
embeddings, similarity = session.run(None, {"images": images})
```
""",
    "torch-export": """\
```python
import torch
model = torch.export.load("model.pt2").module()
embeddings, similarity = model(images)
```

Load it only where you trust whoever gave it to you: PyTorch's own format may run code.
""",
    "safetensors": """\
```python
from safetensors.torch import load_file
tensors = load_file("model.safetensors")  # encoder.*, projector.*, centroids
```

`encoder.network.*` are the parameters of the network under the names of its own package.
""",
}


def card(opened: Opened, kind: str, name: str) -> str:
    """The card as Markdown."""
    facts, networks = opened.facts, opened.networks
    plan = networks.plan
    figures = "".join(
        f"| {FIGURES[key].title} | {value:.3f} | {FIGURES[key].about} |\n"
        for key, value in facts.figures.items()
    )
    clusters = "".join(
        f"| {cluster} | {_cell(facts.shown(cluster))} | "
        f"{f'{facts.sizes[cluster]:,}' if facts.sizes else ''} |\n"
        for cluster in range(facts.clusters)
    )
    over = f"{facts.images:,} images at {facts.sites} sites" if facts.images else "no images known"
    return f"""\
# {_cell(facts.recipe)}: {networks.plan.encoder}, {facts.clusters} clusters

An image encoder and {facts.clusters} clusters, learned without labels by Covey {facts.covey} over
{over} (run `{_cell(facts.run)}`, {facts.created}). No image left its site.

## Use

{LOADING[kind]}
{_encoder_alone(opened) if kind == "timm" else _takes_and_gives(opened)}

## What is known of it

| figure | value | what it means |
|---|---|---|
{figures}
These are of the images that it was learned from. Pictures of another kind may fall into any
cluster: nothing says that a picture belongs to none but a small cosine.

| cluster | name | images |
|---|---|---|
{clusters}
Encoder `{plan.encoder}`, normalisation `{plan.normalisation}`, {plan.rounds} training rounds,
seed {plan.seed}.{_weights(plan)}
The file `{name}` is derived from `model.covey`, identity `{opened.identity}`.
"""


def _takes_and_gives(opened: Opened) -> str:
    how, networks = opened.facts.preprocessing, opened.networks
    colours = "RGB" if how.channels == 3 else "grey"
    width, clusters = networks.model.width(networks.space), opened.facts.clusters
    return f"""\
- **Takes** `images`: float32 (N, {how.channels}, {how.side}, {how.side}) in [0, 1], {colours}. A
  picture is made square ({how.fit}), scaled to {how.side} pixels (bilinear, antialiased) and
  divided by 255: `preprocessing.json`. Mean and standard deviation are part of the model.
- **Gives** embeddings (N, {width}) of unit length ({networks.space} output), and their cosines
  (N, {clusters}) with the clusters' centres: the largest is the picture's cluster.
  `clusters.json` has the names."""


def _encoder_alone(opened: Opened) -> str:
    found, how, space = timm_model(opened), opened.facts.preprocessing, opened.networks.space
    roots = ", whose square roots are its features" if found.root else ""
    scaled = (
        f" The run had seen pictures of {how.side} pixels,\n  which the encoder scaled: embeddings "
        f"of what is scaled to {found.side} at once differ a little."
        if how.side != found.side
        else ""
    )
    where = (
        "Clusters lie among them: the nearest centre, by cosine, is the picture's cluster."
        if space == "encoder"
        else "Clusters lie in a projector's space:\n  another format has that."
    )
    return f"""\
- **Takes** float32 (N, {found.channels}, {found.side}, {found.side}), standardised.{scaled}
- **Gives** the encoder's outputs (N, {found.width}){roots}. {where}"""


def _weights(plan: Plan) -> str:
    """Whose weights are in the file, for an encoder that others have trained."""
    if plan.network is None:
        return ""
    return (
        f"\nThe encoder's weights are those of a file with the SHA-256\n`{plan.weights}`:\n"
        "they are inside, and their own licence holds for them."
    )


def _cell(text: str) -> str:
    """Text that a table of Markdown, and a heading, take as it is."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]#" else c for c in text)
