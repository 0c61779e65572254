"""Where a panorama roughly is: a position of GPS, from a list or the photo's tags, and how far to trust it."""

import dataclasses

import numpy as np

REACH = 6.0  # standard deviations of a rough position beyond which no tile is compared: e^-18 of the prior's height


@dataclasses.dataclass(frozen=True)
class RoughPosition:
    """A position that is not exact."""

    longitude: float  # degrees (WGS 84)
    latitude: float
    sigma: float | None  # metres, standard deviation east and north; None: all tiles within `near` are as likely
    near: float  # metres beyond which no tile is compared, or infinity
    name: str  # of its kind, as calibrations are told apart by it

    def reach(self, spacing):
        """Metres within which tiles are compared; `spacing`: between neighbouring tiles."""
        return self.near if self.sigma is None else min(self.near, REACH * self.sigma + spacing)

    def log_prior(self, distances, spacing):
        """Logarithm of the Gaussian's density relative to its centre's, for tiles at (n,) metres from it.

        A tile stands for the square around it, so exact positions are not farther from all tiles than they should be.
        """
        if self.sigma is None:
            return np.zeros(len(distances))
        return -0.5 * np.asarray(distances) ** 2 / (self.sigma**2 + spacing**2 / 12)


def rough_position(config, location=None, accuracy=None, photo=None):
    """The RoughPosition of a panorama, or None if nothing asks for one or no position is known.

    Args:
        config: places.QueryConfig.
        location, accuracy: of a list, or None.
        photo: PhotoGeometry, or None.
    """
    if config.near is None and config.gps_sigma is None and accuracy is None:
        return None
    tagged = None
    if photo is not None and (location is None or config.gps_from == "photo"):
        location, tagged = photo.location, photo.accuracy
    if location is None:
        return None
    own = accuracy or (tagged if config.gps_sigma is not None else None)
    sigma = own or config.gps_sigma
    near = np.inf if config.near is None else config.near
    name = "" if config.near is None else f", within {config.near:g} m"
    if sigma is not None:
        name += ", each its GPS accuracy" if own else f", GPS sigma {sigma:g} m"
    return RoughPosition(*location, sigma, near, name)
