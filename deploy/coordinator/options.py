"""Which options of a run `covey submit` does not take."""

_WHERE = "the images are where they are (covey run and covey simulate spread them)"
_JOIN = "each site says it when it joins (covey client join"
NOT_OF_SUBMIT = {
    "dataset": f"{_JOIN} --data)",
    "images": "each site trains on all of its own images",
    "pages": f"{_JOIN} --pages)",
    "largest": f"{_JOIN} --largest)",
    "copies": f"{_JOIN} --copies)",
    "alone": "the sites are those that have joined (covey server sites)",
    "partition": _WHERE,
    "size-skew": _WHERE,
    "device": f"{_JOIN} --device)",
}
"""Options of a run that are the sites' to say where it is over separate machines, and why."""
