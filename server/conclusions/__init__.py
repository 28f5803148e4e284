"""What the server concludes from an exchange at a stage's end: figures, one function for each kind.

A function in a file of this folder that is called as an exchange is found by that name.
"""

from collections.abc import Callable, Mapping

from common.protocol.exchanges import EXCHANGES
from common.utils.discovery import functions_in
from server.measurements import Measurements

CONCLUSIONS: Mapping[str, Callable[[Measurements], dict[str, float | None]]]
CONCLUSIONS = functions_in(__name__, __path__, EXCHANGES)
"""kind -> the figures (keys of `FIGURES`) that follow from what the sites' answers add up to; None
where no site sent what one needs."""
