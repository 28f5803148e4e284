"""What a plan leaves open, settled by what the sites that have joined say of their images."""

from collections.abc import Callable, Iterable

from common.config.options import Plan
from server.conversation.registration import SiteInfo


def settle_window(
    plan: Plan, sites: Iterable[SiteInfo], warn: Callable[[str], None]
) -> tuple[Plan, tuple[str, ...]]:
    """The plan with the window that all sites with pictures of more than 8 bits give them, if it
    leaves that open, and which options that has settled; a warning where theirs differ."""
    told = {site.name: site.facts.window for site in sites if site.facts.window}
    windows = set(told.values())
    if plan.window or not windows:
        return plan, ()
    if len(windows) > 1:
        said = ", ".join(f"{name} {window}" for name, window in sorted(told.items()))
        warn(f"the sites' windows differ ({said}): --window LOW:HIGH gives all the same")
        return plan, ()
    return plan.model_copy(update={"window": windows.pop()}), ("window",)
