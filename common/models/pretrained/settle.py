"""From `--encoder timm:NAME --weights FILE` to what all sites agree on, and to the encoder."""

import hashlib

import torch

from common.config.encoder import RESNETS, Network, is_onnx, library_of
from common.config.options import Plan
from common.models.encoders import UNNAMED, Encoder, build_encoder
from common.models.pretrained.encoder import Pretrained
from common.models.pretrained.library import Architecture, architecture
from common.models.pretrained.onnx_file import OnnxNetwork, onnx_architecture, read_architecture
from common.models.pretrained.store import (
    VARIABLE,
    WEIGHTS,
    Found,
    WeightStore,
    digest_of_file,
    remember,
)
from common.models.pretrained.weights import fill_from
from common.utils.errors import UserError
from common.utils.seeds import generator

OF_ONNX = ("encoder_mean", "encoder_std")
OWN = ("train_from", "encoder_side", "encoder_crop", *OF_ONNX)  # of a pretrained encoder alone


def settle_encoder(plan: Plan, store: WeightStore) -> Plan:
    """The plan with the digest of its encoder's weights, and with how images are given to it. As it
    is where it has no pretrained encoder, or is settled. `UserError` where the file is missing or
    holds other weights."""
    if not plan.encoder:
        raise UserError(UNNAMED)
    _check_onnx(plan)
    if not plan.is_pretrained or plan.network is not None:
        _check_own(plan)
        return plan
    name = f"torchvision:{plan.encoder}" if plan.encoder in RESNETS else plan.encoder
    if not library_of(name)[0]:
        raise UserError(f"encoder {name} takes no weights: timm:NAME, torchvision:NAME do")
    if not plan.weights:
        build_encoder(name, 1, 1, 0)  # which says so
    if is_onnx(name):
        found = store.given(plan.weights)
        built = read_architecture(found.path.read_bytes(), str(found.path), plan)
    else:
        built, found = architecture(name), store.given(plan.weights)
    side = plan.encoder_side or built.side
    if built.fixed and side != built.side:
        raise UserError(f"encoder-side {side}: {name} takes images of side {built.side} alone")
    how = Network(
        size=found.size,
        side=side,
        mean=built.mean,
        std=built.std,
        interpolation=built.interpolation,
        crop=plan.encoder_crop,
        width=built.width if is_onnx(name) else 0,
    )
    settled = plan.model_copy(update={"encoder": name, "weights": found.digest, "network": how})
    encoder = _filled(settled, built, found, str(found.path))
    remember(found, name)
    if plan.train_from or not _never_negative(encoder):
        return settled
    return settled.model_copy(update={"network": how.model_copy(update={"root": True})})


@torch.no_grad()
def _never_negative(encoder: Pretrained) -> bool:
    """Whether its features are none below 0, as after a ReLU: tried with noise."""
    noise = torch.rand(2, 3, encoder.how.side, encoder.how.side, generator=generator("cpu", 0))
    return bool(encoder.eval()(noise).min() >= 0)


def encoder_of(plan: Plan, channels: int, side: int, store: WeightStore | None) -> Encoder:
    """The plan's encoder for images of `channels` and `side`; a pretrained one with the weights
    from `store`, or as a mere shape where that is None. `UserError` where they are not there."""
    if plan.network is None:
        return build_encoder(plan.encoder, channels, side, plan.seed)
    found = wanted(plan, store) if store else None  # before anything is built
    if is_onnx(plan.encoder):
        built = onnx_architecture(plan.network.width, plan.network.side)
        if found is None:
            return Pretrained(built, plan.network)
        return _opened(plan, built, found, "the file of that SHA-256")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        built = architecture(plan.encoder)
    if found is None:
        return Pretrained(built, plan.network, plan.train_from)
    return _filled(plan, built, found, "the file of that SHA-256")


def wanted(plan: Plan, store: WeightStore) -> Found:
    """The file with the weights of a settled plan; `UserError` that names what is missing, and no
    place: a site's goes to the server."""
    assert plan.network is not None
    found = store.find(plan.weights, plan.network.size)
    if found is None:
        raise UserError(
            f"the weights of {plan.encoder} (SHA-256 {plan.weights[:12]}…, "
            f"{plan.network.size / 1e6:.1f} MB) are not here: the file belongs into ${VARIABLE} "
            f"or {WEIGHTS}/ of a site's folder (covey client join --take-weights takes it)"
        )
    return found


def _filled(plan: Plan, built: Architecture, found: Found, called: str) -> Pretrained:
    assert plan.network is not None
    if is_onnx(plan.encoder):
        return _opened(plan, built, found, called)
    encoder = Pretrained(built, plan.network, plan.train_from)
    if digest_of_file(found.path) != found.digest:
        raise UserError(f"{called} has changed since it was found")
    fill_from(encoder, found.path, plan.encoder, built.classifier, called)
    return encoder


def _opened(plan: Plan, built: Architecture, found: Found, called: str) -> Pretrained:
    """The encoder with the ONNX file as its network."""
    assert plan.network is not None and isinstance(built.network, OnnxNetwork)
    data = found.path.read_bytes()  # what is looked at is what is run
    if hashlib.sha256(data).hexdigest() != found.digest:
        raise UserError(f"{called} has changed since it was found")
    built.network.open(data, called)
    width = built.network.width(plan.network.side, called)
    if width != plan.network.width:
        raise UserError(f"{called} gives {width} numbers for an image, not {plan.network.width}")
    encoder = Pretrained(built, plan.network)
    encoder.loaded = True
    return encoder


def _check_onnx(plan: Plan) -> None:
    if is_onnx(plan.encoder):
        if plan.train_from:
            raise UserError("train-from: an ONNX encoder is frozen")
        return
    for name in OF_ONNX:
        if plan.is_pretrained and getattr(plan, name):
            raise UserError(f"{name.replace('_', '-')} is an option of ONNX encoders alone")


def _check_own(plan: Plan) -> None:
    for name in OWN:
        if plan.network is None and getattr(plan, name) != Plan.model_fields[name].default:
            raise UserError(f"{name.replace('_', '-')} is an option of pretrained encoders alone")
