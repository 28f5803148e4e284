"""What a site's memory needs to look at pictures of side 224, beside the pictures themselves."""

import subprocess
import sys

MOST = 2e9  # bytes
SCRIPT = """
import resource
import torch
from client.embedding import view_outputs
from common.augmentations import build_augmentation
from common.config.encoder import Network
from common.config.parameters import NoParameters
from common.models.pretrained.encoder import Pretrained
from common.models.pretrained.library import architecture
from common.solvers.frozen import Frozen

half = (0.5, 0.5, 0.5)
how = Network(size=1, side=224, mean=half, std=half, interpolation="bicubic", crop=1.0)
encoder = Pretrained(architecture("timm:tf_efficientnet_lite0"), how)
encoder.loaded = True
model = Frozen(encoder, NoParameters(), 10)
images = torch.zeros(150, 3, 224, 224, dtype=torch.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
views = build_augmentation("natural", "natural", 224)
with torch.no_grad():
    for h in view_outputs(model, views, images, torch.arange(150), torch.Generator()):
        assert h.shape == (300, 1280)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_two_views_of_pictures_of_side_224_take_less_than_two_gigabytes() -> None:
    """Of 150 pictures at once the maps of the first layer alone would be 1.2 GB."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=250
    )
    assert float(done.stdout) < MOST
