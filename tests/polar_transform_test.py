"""The polar transform is the published one, pixel for pixel, and looks where it should."""

import numpy as np
import pytest
from golden import GOLDEN, recipe

from polar_transform import HEIGHT, WIDTH, min_max_stretch, polar_transform, sample_coordinates


@pytest.mark.parametrize("size", [750, 1200])
def test_polar_maps_equal_the_published_ones_pixel_for_pixel(size):
    golden = np.load(GOLDEN / "polar_transform.npz")
    polar = polar_transform(recipe.aerial_image(size))
    np.testing.assert_allclose(polar[[0, 37, 74, 111]], golden[f"polar_{size}_unstretched_rows"], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(min_max_stretch(polar), golden[f"polar_{size}"])


def test_column_0_looks_south_and_columns_turn_by_west_north_and_east():
    quarters = np.array(sample_coordinates(750))[:, 0, :: WIDTH // 4].T
    steps = (quarters - 375) / (375 / HEIGHT * (HEIGHT - 1))  # of rows and columns
    np.testing.assert_allclose(steps, [(1, 0), (0, -1), (-1, 0), (0, 1)], atol=1e-9)


def test_a_constant_image_becomes_black_instead_of_not_a_number_and_a_tile_that_is_not_square_is_refused():
    assert not min_max_stretch(np.full((4, 4, 3), 77.0)).any()
    with pytest.raises(ValueError, match="S, S, 3"):
        polar_transform(np.zeros((10, 12, 3), np.uint8))
