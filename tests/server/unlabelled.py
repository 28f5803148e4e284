"""A plan's data as sites without labels have it, in the place of `planned_data`."""

from common.config.options import Plan
from common.data import ImageData
from common.data.planned import planned_data


def without_labels(plan: Plan) -> ImageData:
    data = planned_data(plan)
    return ImageData(data.images, None, (), data.names, data.kind)
