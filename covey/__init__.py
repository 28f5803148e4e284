"""Covey in Python: use what a federation has learned, and simulate federations.

    import covey

    run = covey.simulate("covey", data="digits", images=600, rounds=2)
    model = run.model()
    model.embed("folder/of/images")        # (N, d) float32, unit length
    model.predict("folder/of/images")      # (N,) the cluster of each image

What is named here is what other code may rely on. Everything else in this package and in the
packages beside it (`client`, `common`, `deploy`, `server`) is private and changes without notice.
Importing this imports no torch.
"""

from common.utils.errors import UserError as Error
from common.utils.version import covey_version as _version
from covey._estimator import ClusterModel
from covey._images import Images, Pictures
from covey._model import Model, load
from covey._run import Round, Run, Stage, runs
from covey._simulation import Option, simulate

__version__ = _version()
__all__ = [
    "ClusterModel",
    "Error",
    "Images",
    "Model",
    "Option",
    "Pictures",
    "Round",
    "Run",
    "Stage",
    "load",
    "runs",
    "simulate",
]
