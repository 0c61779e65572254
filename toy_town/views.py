"""Looks (light, season and camera, which differ between the two views of a place) and the two views themselves."""

import dataclasses
import functools
import itertools
import math
import types

import cv2
import numpy as np

from toy_town.materials import (
    CELL,
    COLOURS,
    CROWN_BASE,
    CROWN_FACING,
    CROWN_MATERIAL,
    DOOR,
    GRAIN,
    MATERIAL,
    PATTERN,
    PITCH,
    SHOP,
    SLOPE,
    TREE,
    UPRIGHT,
    VEGETATION,
    WINDOWS,
    seamless_noise,
)
from toy_town.scene import LAYERS, RANGE

TILE = 80.0  # metres across an aerial tile, whatever its size in pixels
CAMERA = 2.5  # metres above the road, as on a street-view car
NEAR_GROUND = 30.0  # metres; the ground within is sampled smoothly, since there a cell covers many pixels


@dataclasses.dataclass(frozen=True)
class Look:
    """How a view is lit, coloured and taken."""

    palette: np.ndarray  # (256,) uint32, the BGRA colour of each material
    light: np.ndarray  # (256,) uint8, brightness of each facing; 128 is flat ground in the sun
    shadow: int  # brightness of flat ground in the shade, in the same unit
    sun: tuple  # (east, south, drop): unit vector towards the sun and metres of fall of its rays per metre
    haze: float  # how much of a thing's colour is lost in 100 m, 0..1
    haze_colour: np.ndarray  # (3,) float32 BGR
    sky: int  # which prepared sky, from 0
    sky_turn: float  # how far it is turned, 0..1
    sky_light: float  # its brightness
    noise: float  # standard deviation of the sensor's noise in grey levels
    blur: bool  # whether the lens is soft
    grain: tuple  # (row, column) where to begin in the prepared noise


SKIES = 6


def plain_look():
    """A noon without haze or noise: the materials' own colours."""
    camera = {"sky": 0, "sky_turn": 0.0, "sky_light": 1.0, "noise": 0.0, "blur": False, "grain": (0, 0)}
    return _look(COLOURS, 180.0, 50.0, 0.5, haze=0.2, haze_colour=np.array([225, 215, 205], np.float32), **camera)


def random_look(rng):
    """Draw the light, season, tint, exposure and camera of one view."""
    colours = COLOURS.copy()
    autumn = 0.5 * rng.uniform(0, 1) ** 1.5
    turned = colours * (1 + 0.55 * autumn, 1 + 0.02 * autumn, 1 - 0.3 * autumn) * rng.uniform(0.92, 1.08)
    turned[TREE : TREE + 16] *= rng.uniform(0.88, 1.12, (16, 1))  # trees do not turn together
    colours += VEGETATION[:, None] * (turned - colours)
    grey = colours.mean(axis=1, keepdims=True)
    colours = grey + rng.uniform(0.9, 1.2) * (colours - grey)
    tint = rng.uniform(0.95, 1.05, 3) * rng.uniform(0.88, 1.12)
    colours = 255 * (np.clip(colours * tint, 0, 255) / 255) ** rng.uniform(0.92, 1.08)
    haze_colour = np.clip(np.array([224, 216, 208]) * tint[::-1] * rng.uniform(0.95, 1.05), 0, 255).astype(np.float32)
    azimuth, elevation, ambient, haze = (rng.uniform(*bounds) for bounds in ((90, 270), (35, 65), (0.6, 0.8), (0.1, 0.3)))
    camera = {"sky": int(rng.integers(SKIES)), "sky_turn": rng.random(), "sky_light": rng.uniform(0.8, 1.1)}
    camera |= {
        "noise": rng.uniform(1.0, 3.5),
        "blur": bool(rng.random() < 0.6),
        "grain": tuple(rng.integers(512, size=2).tolist()),
    }
    return _look(colours, azimuth, elevation, ambient, haze=haze, haze_colour=haze_colour, **camera)


def _look(colours, azimuth, elevation, ambient, **others):
    packed = np.full((256, 4), 255, np.uint8)
    packed[:, :3] = np.clip(np.round(colours[:, ::-1]), 0, 255)
    azimuth, elevation = math.radians(azimuth), math.radians(elevation)
    turns = np.radians(np.arange(16) * 22.5) - azimuth
    tilt = math.atan(PITCH)
    sunshine = np.full(256, math.sin(elevation))
    sunshine[SLOPE : SLOPE + 16] = math.cos(tilt) * math.sin(elevation) + math.sin(tilt) * math.cos(elevation) * np.cos(turns)
    sunshine[UPRIGHT : UPRIGHT + 16] = math.cos(elevation) * np.cos(turns)
    sky_share = np.ones(256)
    sky_share[UPRIGHT : UPRIGHT + 16] = 0.85  # a wall sees half the sky, and the lit ground
    light = ambient * sky_share + (1 - ambient) * np.maximum(sunshine, 0) / math.sin(elevation)
    light = np.clip(np.round(128 * light), 0, 235).astype(np.uint8)
    sun = math.sin(azimuth), -math.cos(azimuth), math.tan(elevation)
    return Look(packed.view(np.uint32)[:, 0], light, round(128 * ambient), sun, **others)


def _lit(look, material, facing, texture, shade):
    """Colours of cells: (h, w, 4) uint8 BGRA from (h, w) uint8 arrays; `shade` may be None."""
    light = cv2.multiply(texture, cv2.LUT(facing, look.light), scale=1 / 128)
    if shade is not None:
        light = cv2.multiply(light, shade, scale=1 / 128)
    colours = cv2.LUT(material, look.palette.view(np.int32)).view(np.uint8).reshape(*material.shape, 4)
    return cv2.multiply(colours, cv2.cvtColor(light, cv2.COLOR_GRAY2BGRA), scale=1 / 128)


def _shade(scene, look, row, column, half, stride):
    """Soft cast shadows on the square of cells from -half to half around a cell: brightness, every `stride`-th cell."""
    coarse, reach = 3, 30  # cells: shadows are computed on coarser cells, and no longer than this many of them
    size = 2 * half // coarse + 1
    first_row, first_column = row - half, column - half
    margin = reach * coarse
    rows, columns = scene.height.shape
    above, left = max(0, first_row - margin), max(0, first_column - margin)
    # Aligned with the square: its cell (0, 0) is sampled.
    above, left = above + (first_row - above) % coarse, left + (first_column - left) % coarse
    part = (
        slice(above, min(rows, first_row + size * coarse + margin), coarse),
        slice(left, min(columns, first_column + size * coarse + margin), coarse),
    )
    heights = np.maximum(scene.height[part], scene.crown[part]).astype(np.int16)
    y, x = (first_row - above) // coarse, (first_column - left) // coarse
    own = heights[y : y + size, x : x + size]
    darkest = np.zeros_like(own)
    east, south, fall = look.sun
    longest = max(abs(east), abs(south))
    drop = fall * CELL * coarse * 10 / longest  # decimetres per step of one coarse cell
    for step in range(1, min(reach, int(130 / drop)) + 1):
        dy, dx = y + round(step * south / longest), x + round(step * east / longest)
        if dy < 0 or dx < 0:
            break
        towards = heights[dy : dy + own.shape[0], dx : dx + own.shape[1]]
        if towards.shape != own.shape:
            break
        np.maximum(darkest, towards - np.int16(round(step * drop)), out=darkest)
    brightness = np.where(darkest > own + 3, np.uint8(look.shadow), np.uint8(128))
    out = len(range(0, 2 * half + 1, stride))
    scale = np.array([[stride / coarse, 0, 0], [0, stride / coarse, 0]], np.float32)
    return cv2.warpAffine(
        brightness, scale, (out, out), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )


@functools.lru_cache(maxsize=4)
def _sensor_noise(down, across):
    """Noise of standard deviation 32 around 128, (1024 * down, 1024 * across, 3) uint8; made once, as it takes longest."""
    noise = np.random.default_rng(11).standard_normal((1024, 1024, 3), dtype=np.float32)
    return np.tile(np.clip(128 + 32 * noise, 0, 255).astype(np.uint8), (down, across, 1))


def _photograph(image, look):
    """What the camera adds: softness and noise. (h, w, 4) uint8 to (h, w, 3) uint8."""
    image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    if look.blur:
        image = cv2.GaussianBlur(image, (3, 3), 0.6)
    if look.noise:
        row, column = look.grain
        rows, columns = image.shape[:2]
        sensor = _sensor_noise(-(-(rows + 512) // 1024), -(-(columns + 512) // 1024))
        image = cv2.addWeighted(image, 1, sensor[row : row + rows, column : column + columns], look.noise / 32, -4 * look.noise)
    return image


def render_aerial(scene, column, row, size, look):
    """The tile from above: orthographic, north up, `TILE` metres across, the place at pixel coordinate (size/2, size/2).

    Args:
        scene: finished `Scene` that holds the tile.
        column, row: the place, lattice cells.
        size: pixels.
        look: `Look`.

    Returns:
        (size, size, 3) uint8, BGR.
    """
    column, row = column - scene.column, row - scene.row
    pixel = TILE / size / CELL  # cells
    stride = max(1, int(pixel))
    half = (math.ceil(TILE / 2 / CELL / stride) + 1) * stride
    part = slice(row - half, row + half + 1, stride), slice(column - half, column + half + 1, stride)
    crown, kind, height, material, facing, texture = (
        array[part].copy() for array in (scene.crown, scene.crown_kind, scene.height, scene.top, scene.facing, scene.texture)
    )
    covered = cv2.compare(crown, height, cv2.CMP_GT)
    cv2.copyTo(cv2.LUT(kind, CROWN_MATERIAL), covered, material)
    cv2.copyTo(cv2.LUT(kind, CROWN_FACING), covered, facing)
    cv2.copyTo(_leaves()[: covered.shape[0], : covered.shape[1]], covered, texture)
    colours = _lit(look, material, facing, texture, _shade(scene, look, row, column, half, stride))
    # Output pixel x shows lattice column + (x - size/2) * pixel.
    shift = (half - size / 2 * pixel) / stride
    scale = np.array([[pixel / stride, 0, shift], [0, pixel / stride, shift]])
    image = cv2.warpAffine(colours, scale, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return _photograph(image, look)


@functools.cache
def _leaves():
    """The mottling of crowns, (1024, 1024) uint8 around 128."""
    return np.clip(128 + 26 * seamless_noise(), 40, 250).astype(np.uint8)


class PanoramaShape:
    """The rays of a panorama of one size, prepared once for all places.

    Column j of w looks towards azimuth 180 + 360 * j / w degrees, as the polar transform has it; row i of h looks at
    elevation `top - (i + 0.5) * (top - bottom) / h` degrees.
    """

    def __init__(self, height, width, bottom, top):
        self.height, self.width, self.bottom, self.top = height, width, bottom, top
        azimuth = np.radians(180 + 360 * np.arange(width) / width)
        self._east, self._south = np.sin(azimuth), -np.cos(azimuth)
        self._degrees = (top - bottom) / height  # per row
        steps = 96 + width // 10
        self.distances = np.geomspace(1.2, RANGE, steps)
        elevation = bottom + (np.arange(height) + 0.5) * self._degrees  # from the bottom row upwards
        slope = np.tan(np.radians(np.clip(elevation, -89.9, 89.9)))
        # How many rows, counted from the bottom, a thing of that many decimetres covers at that distance.
        heights = np.arange(256) / 10
        angles = np.degrees(np.arctan2(heights[None, :] - CAMERA, self.distances[:, None]))
        rows = np.clip(np.round((angles - bottom) / self._degrees), 0, height).astype(np.int16)
        self.base_rows = rows.copy()
        rows[:, 0] = 0  # ground hides nothing; it is drawn by itself
        self.rows = rows
        # Height of each row's ray at each distance, decimetres.
        self.ray_heights = np.clip(10 * (CAMERA + self.distances[:, None] * slope), -32000, 32000).astype(np.int16)
        # Decimetres that a roof may rise from one step to the next; what rises more is a wall.
        self.roof_rises = np.ceil(1 + 10 * PITCH * np.gradient(self.distances)).astype(np.int16)
        self.haze = 1 - np.exp(-self.distances / 100)  # of each step
        self.horizon = int(np.searchsorted(elevation, 0))  # rows below the horizon, counted from the bottom
        ground = CAMERA / -slope[: self.horizon]
        self.near_rows = int(np.searchsorted(ground, NEAR_GROUND))
        self.stride = 2 if width <= 700 else 1  # cells that a small picture need not tell apart
        near = ground[: self.near_rows, None] / CELL / self.stride
        self.near_half = (math.ceil(NEAR_GROUND / CELL / self.stride) + 1) * self.stride
        centre = self.near_half / self.stride
        self.near_map = cv2.convertMaps(
            (centre + near * self._east).astype(np.float32), (centre + near * self._south).astype(np.float32), cv2.CV_16SC2
        )
        far = np.minimum(ground[self.near_rows :], RANGE)
        self.far_steps = np.clip(np.searchsorted(self.distances, far), 0, steps - 1)
        self._march, self._far = (
            [np.round(away[:, None] * across / CELL).astype(np.intp) for across in (self._south, self._east)]
            for away in (self.distances, far)
        )
        self.offsets = functools.lru_cache(1)(self.offsets)  # the scenes of a run are often as wide
        self._row_numbers = np.arange(height)[:, None]
        self.row_ends = (np.arange(1, height + 1, dtype=np.int32) << 16)[:, None]
        self._skies = [self._sky(number) for number in range(SKIES)]
        self._hills = self._skyline()

    def offsets(self, columns):
        """Flat indices in a scene that wide: of the rays' cells, of the far ground's, and of the place, all relative
        to the first cell that a ray can reach.
        """
        march, far = (rows * columns + across for rows, across in (self._march, self._far))
        first = min(march.min(), far.min()) if far.size else march.min()
        return march - first, far - first, -first

    def _sky(self, number):
        """A sky with clouds, (rows above the horizon, from the horizon upwards, width, 4) uint8."""
        rows = self.height - self.horizon
        up = np.clip((np.arange(rows) + 0.5) * self._degrees / 60, 0, 1)[:, None, None]
        blue = np.array(
            [[226, 214, 200], [228, 205, 180], [220, 214, 210], [232, 208, 176], [216, 200, 190], [235, 215, 185]], np.float32
        )[number]
        zenith = np.array(
            [[205, 150, 96], [214, 146, 84], [196, 186, 178], [200, 138, 80], [190, 160, 130], [222, 160, 100]], np.float32
        )[number]
        sky = blue + (zenith - blue) * up**0.6
        # Clouds lie in a plane overhead, so they flatten towards the horizon.
        elevation = np.radians(np.clip((np.arange(rows) + 0.5) * self._degrees + 4, 0, 90))[:, None]
        reach = 90 / np.tan(elevation)
        padded = np.pad(np.roll(seamless_noise(), 97 * number, axis=1), 32, mode="wrap")
        field = cv2.GaussianBlur(padded, (0, 0), 5)[32:-32, 32:-32]
        clouds = cv2.remap(
            field / field.std(),
            (reach * self._east + 512).astype(np.float32),
            (reach * self._south + 512).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        alpha = np.clip((clouds + (0.1, -0.4, 0.9, -0.9, 0.5, 0.0)[number]) * 0.5, 0, 0.9)[:, :, None] * np.clip(up * 6, 0, 1)
        out = np.full((rows, self.width, 4), 255, np.uint8)
        out[:, :, :3] = np.clip(sky + (np.array([244, 242, 240], np.float32) - sky) * alpha, 0, 255)
        return out

    def _skyline(self):
        """Rows above the horizon that distant hills, and trees before them, cover in each column: two (width,) arrays."""
        rng = np.random.default_rng(5)
        turn = np.radians(360 * np.arange(self.width) / self.width)
        hills = sum(rng.uniform(0.3, 1) / n * np.sin(n * turn + rng.uniform(0, 6.28)) for n in range(1, 9)) * 0.9 + 2.4
        trees = sum(rng.uniform(0.1, 0.4) * np.sin(n * turn + rng.uniform(0, 6.28)) for n in range(9, 90, 4)) * 0.45 + 1.1
        return (np.maximum(hills, 0.3) / self._degrees).astype(int), (np.maximum(trees, 0.2) / self._degrees).astype(int)

    def backdrop(self, look, out):
        """Paint sky and hills into the rows above the horizon, from the horizon upwards."""
        sky = self._skies[look.sky]
        turn = int(look.sky_turn * self.width)
        cv2.convertScaleAbs(np.concatenate([sky[:, turn:], sky[:, :turn]], axis=1), dst=out, alpha=look.sky_light)
        hills, trees = self._hills
        green = np.array(look.palette[TREE : TREE + 1].view(np.uint8)[:3], np.float32)
        for rows, mix in ((hills, 0.72), (trees, 0.4)):
            colour = np.append(green * (1 - mix) + look.haze_colour * mix, 255)
            part = out[: min(int(rows.max()), len(out))]
            part[self._row_numbers[: len(part)] < rows] = colour.astype(np.uint8)


def panorama_view(dataset, height, width):
    """The `PanoramaShape` of a dataset: CVUSA's panoramas are cropped around the horizon, others are whole spheres."""
    return PanoramaShape(height, width, -90.0, 90.0) if dataset != "cvusa" else PanoramaShape(height, width, -35.0, 35.0)


def render_panorama(scene, column, row, view, look):
    """What a camera `CAMERA` metres above a place sees all around.

    Rays are marched outwards over the height field. Along each column of the picture a thing shows where it rises above
    everything nearer; what a ray meets well below a cell's height is a wall, otherwise the cell's top. Crowns are
    marched separately, as one sees underneath them.

    Args:
        scene: finished `Scene` that holds `RANGE` metres around the place.
        column, row: the place, lattice cells.
        view: `PanoramaShape`.
        look: `Look`.

    Returns:
        (view.height, view.width, 3) uint8, BGR; north in the centre column.
    """
    column, row = column - scene.column, row - scene.row
    columns = scene.height.shape[1]
    march, far, centre = view.offsets(columns)
    first = row * columns + column - centre
    cells = types.SimpleNamespace(**{name: getattr(scene, name).ravel()[first:] for name in LAYERS})
    out = np.empty((view.height, view.width, 4), np.uint8)  # from the bottom row upwards until the end
    view.backdrop(look, out[view.horizon :])
    _paint_near_ground(scene, column, row, view, look, out[: view.near_rows])

    solid = _first_hits(view, cells.height.take(march), None)
    crown = _first_hits(view, cells.crown.take(march), lambda hits: CROWN_BASE[cells.crown_kind[march.ravel()[hits]]])
    flat = out.view(np.uint32).ravel()
    things = solid != NOTHING
    walls = np.flatnonzero(things & (solid <= crown))  # at the same step it is a trunk in its crown
    at, z, steps = _met(view, march, solid, walls)
    _paint(flat, walls, *_walls(cells, view, at, z, steps), steps, view, look)
    leaves = np.flatnonzero(crown < solid)
    at, z, steps = _met(view, march, crown, leaves)
    _paint(flat, leaves, *_foliage(cells, at, z), steps, view, look)
    rows = slice(view.near_rows, view.horizon)
    distant = np.flatnonzero(~things[rows] & (crown[rows] == NOTHING))
    at = far.ravel()[distant]
    ground, steps = (cells.top[at], np.zeros(len(at), np.uint8), cells.texture[at]), view.far_steps[distant // view.width]
    _paint(flat, distant + view.near_rows * view.width, *ground, steps, view, look)
    return _photograph(np.ascontiguousarray(out[::-1]), look)


NOTHING = np.uint16(65535)  # the step at which a ray meets a thing, where it meets none


def _first_hits(view, heights, base):
    """At which step of the march each pixel meets a thing.

    Args:
        view: `PanoramaShape`.
        heights: (steps, width) uint8, decimetres along the rays; 0 for nothing.
        base: function from flat indices into `heights` to the decimetres at which those things begin; None for ground.

    Returns:
        (height, width) uint16 from the bottom row upwards; `NOTHING` where the ray meets none.
    """
    reached = np.empty((len(heights) + 1, view.width), np.int16)
    reached[0] = 0
    for step, table in enumerate(view.rows):  # several times faster than np.maximum.accumulate
        np.maximum(reached[step], cv2.LUT(heights[step : step + 1], table), out=reached[step + 1 : step + 2])
    hits = np.flatnonzero(reached[1:] > reached[:-1])
    step, across = hits // view.width, hits % view.width
    end = reached[1:].ravel()[hits].astype(np.int32)
    start = np.maximum(reached.ravel()[hits], view.base_rows[step, 0 if base is None else base(hits)]).astype(np.intp)
    keep = np.flatnonzero(start < end)
    runs = np.zeros((view.height, view.width), np.int32)
    # Ends and steps both grow with the row, so a running maximum spreads each run over its rows and beyond.
    runs.ravel()[start[keep] * view.width + across[keep]] = (end[keep] << 16) | step[keep]
    for below, row in itertools.pairwise(runs):
        np.maximum(below, row, out=row)
    return np.where(runs >= view.row_ends, runs.astype(np.uint16), NOTHING)


def _met(view, march, hits, pixels):
    """Where the rays of n pixels meet things, by `_first_hits`: cells, decimetres above the road, and steps, (n,) each."""
    steps, (rows, across) = hits.ravel()[pixels], np.divmod(pixels, view.width)
    return march.ravel()[steps.astype(np.intp) * view.width + across], view.ray_heights[steps, rows], steps


def _walls(cells, view, at, z, steps):
    """Material, facing and texture, each (n,) uint8, of solid things where rays meet them."""
    height = cells.height[at]
    wall = z + view.roof_rises[steps] < height
    side = cells.side[at]
    pattern = PATTERN[side]
    storey = np.mod(z, np.int16(28))
    pane = (storey >= 9) & (storey < 21)
    glazed = (pattern == WINDOWS) & pane | (pattern == SHOP) & (pane | ((z > 3) & (z < 24)))
    material = np.where(wall, side, cells.top[at])
    material[wall & glazed & (z + np.int16(4) < height)] = MATERIAL["glass"]
    material[wall & (pattern == DOOR) & (z < 21)] = MATERIAL["door"]
    return material, np.where(wall, cells.side_facing[at], cells.facing[at]), _mottled(at, z, GRAIN[material] + 5)


def _foliage(cells, at, z):
    """Material, facing and texture, each (n,) uint8, of crowns where rays meet them."""
    kind = cells.crown_kind[at]
    base = CROWN_BASE[kind].astype(np.float32)
    depth = np.clip((z - base) / np.maximum(cells.crown[at] - base, 1), 0, 1)  # crowns are darker below
    texture = _mottled(at, z, np.float32(34)) * (np.float32(0.72) + np.float32(0.38) * depth)
    return CROWN_MATERIAL[kind], CROWN_FACING[kind], texture.astype(np.uint8)


def _mottled(at, z, grain):
    """Texture that depends on the cell and the height only, (n,) uint8."""
    speckle = _leaves().ravel()[(at * 5 + z * np.intp(1031)) & 0xFFFF].astype(np.float32) - 128
    return (128 + speckle * (grain * np.float32(1 / 26))).clip(0, 255).astype(np.uint8)


def _paint(flat, pixels, material, facing, texture, steps, view, look):
    """Light things and veil them by the haze of their distance; all arrays (n,), `flat` is the picture's pixels."""
    if not len(pixels):
        return
    keep = 1 - look.haze * view.haze
    veil = np.zeros((len(keep), 4), np.uint8)
    veil[:, :3] = (1 - keep)[:, None] * look.haze_colour
    # Pictures one row high, as OpenCV's versions differ about arrays of one axis.
    colours = _lit(look, material[None], facing[None], texture[None], (128 * keep).astype(np.uint8)[steps][None])
    veils = veil.view(np.uint32).ravel()[steps].view(np.uint8).reshape(colours.shape)
    flat[pixels] = cv2.add(colours, veils).view(np.uint32).ravel()


def _paint_near_ground(scene, column, row, view, look, out):
    """The ground up to `NEAR_GROUND` metres, interpolated between cells, as if nothing stood on it."""
    half, stride = view.near_half, view.stride
    part = slice(row - half, row + half + 1, stride), slice(column - half, column + half + 1, stride)
    material, texture = scene.top[part].copy(), scene.texture[part].copy()
    colours = _lit(look, material, np.zeros_like(material), texture, _shade(scene, look, row, column, half, stride))
    cv2.remap(colours, *view.near_map, cv2.INTER_LINEAR, dst=out)
