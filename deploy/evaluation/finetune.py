"""Semi-supervised evaluation: encoder and linear classifier fine-tuned with a few labels.

The protocol of SimCLR (Chen et al., ICML 2020, arXiv 2002.05709, section 4 and appendix B.5): 1 %
or 10 % of the labels, balanced by class, for 60 or 30 epochs; nothing is frozen. Ours differs in
the optimiser, AdamW with cosine decay, and trains on views of the data set's own preset. The
numbers below are the same for every run. Labels of held-out images are not read here.
"""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from client.dataset import batches, shuffled_batches
from client.embedding import CHUNK
from common.data import ImageData
from common.utils import seeds
from common.utils.errors import UserError
from deploy.evaluation.trained import Trained

# Within a point of the best of 12 settings tried on two small runs (digits; 6,000 images of
# Fashion-MNIST): batch 32, 64; encoder 3e-4, 1e-3, 3e-3; classifier 1e-3, 1e-2.
BATCH = 32
ENCODER_RATE = 1e-3
CLASSIFIER_RATE = 1e-2
WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class Protocol:
    """Which share of the labels is used, and for how many passes over them."""

    share: float
    epochs: int


PROTOCOLS = {"semi-1": Protocol(0.01, 60), "semi-10": Protocol(0.10, 30)}


@dataclass(frozen=True)
class FineTuned:
    """`labelled` (n,): rows of the training images whose labels were used; `predictions` (M,): the
    class of each test image."""

    labelled: Tensor
    predictions: Tensor


def fine_tuned(
    trained: Trained, protocol: Protocol, data: ImageData, test: ImageData, repeat: int
) -> FineTuned:
    """Fine-tune a copy of the encoder on the `repeat`-th draw of labels of `data`, and name the
    images of `test` (whose labels are not read)."""
    assert data.labels is not None
    seed = trained.plan.seed
    labels = torch.from_numpy(data.labels)
    generator = seeds.generator("cpu", seed, "labelled", repeat)
    labelled = draw_labelled(labels, protocol.share, generator)
    if len(labels[labelled].unique()) < 2:
        raise UserError("fine-tuning needs labels of two classes or more")
    few = data.subset(labelled.numpy())
    generator = seeds.generator(trained.device, seed, "fine-tune", repeat)
    model = fine_tune(trained, few, protocol.epochs, generator)
    return FineTuned(labelled, predict(trained, model, test))


def draw_labelled(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Rows (n,) of `share` of the images of each class, at least one, drawn without replacement. A
    smaller share from the same `generator` is part of a larger one."""
    order = torch.randperm(len(labels), generator=generator)
    chosen = []
    for label in labels.unique():
        rows = order[labels[order] == label]
        chosen.append(rows[: max(1, round(share * len(rows)))])
    return torch.cat(chosen)


def fine_tune(
    trained: Trained, data: ImageData, epochs: int, generator: torch.Generator
) -> nn.Module:
    """A copy of the encoder under a linear classifier, both trained on all of `data`."""
    assert data.labels is not None
    device, augmentation = trained.device, trained.augmentation(data)
    images = torch.from_numpy(data.images).to(device)
    labels = torch.from_numpy(data.labels).to(device)
    encoder = copy.deepcopy(trained.encoder).requires_grad_(True)
    classifier = nn.Linear(encoder.feature_dim, len(data.classes), device=device)
    nn.init.zeros_(classifier.weight)  # all classes alike: no other chance than the data's
    nn.init.zeros_(classifier.bias)
    model = nn.Sequential(encoder, classifier).train()
    groups = [
        {"params": list(encoder.parameters()), "lr": ENCODER_RATE},
        {"params": list(classifier.parameters()), "lr": CLASSIFIER_RATE},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY, fused=True)
    steps = epochs * batches(len(images), BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: (1 + math.cos(math.pi * step / steps)) / 2
    )
    for _ in range(epochs):
        for rows in shuffled_batches(len(images), BATCH, generator):
            with trained.precision():
                scores = model(augmentation(images[rows], generator))
            loss = F.cross_entropy(scores.float(), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def predict(trained: Trained, model: nn.Module, data: ImageData) -> Tensor:
    """The class (N,) of each image, without augmentation."""
    augmentation, images = trained.augmentation(data), torch.from_numpy(data.images)
    with trained.precision():
        found = [
            model(augmentation.plain(chunk.to(trained.device))).argmax(dim=1)
            for chunk in images.split(CHUNK)
        ]
    return torch.cat(found)
