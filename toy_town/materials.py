"""Materials: one byte per cell names the material, and a view recolours the town by a palette of 256 colours."""

import functools

import cv2
import numpy as np

CELL = 0.16  # metres between cells of the height field
STYLES = [  # (roof, wall), RGB: a house shows related colours from above and from the street
    ((180, 82, 54), (228, 178, 138)),
    ((92, 98, 112), (168, 176, 190)),
    ((120, 80, 54), (202, 168, 118)),
    ((150, 54, 48), (178, 88, 72)),
    ((66, 94, 146), (142, 170, 214)),
    ((76, 118, 84), (160, 196, 152)),
    ((56, 54, 58), (232, 230, 226)),
    ((196, 160, 84), (234, 210, 134)),
    ((150, 148, 144), (212, 206, 198)),
    ((208, 206, 202), (240, 238, 234)),
    ((122, 64, 84), (212, 158, 172)),
    ((104, 92, 70), (150, 128, 96)),
]
TREES = [
    (62, 96, 44),
    (78, 112, 50),
    (54, 86, 52),
    (92, 116, 58),
    (70, 104, 66),
    (84, 98, 40),
    (104, 122, 62),
    (48, 76, 40),
    (112, 112, 52),
    (66, 92, 74),
    (88, 92, 56),
    (96, 104, 44),
]
CARS = [
    (228, 228, 226),
    (34, 36, 40),
    (150, 154, 158),
    (170, 30, 32),
    (36, 66, 132),
    (196, 186, 160),
    (60, 92, 70),
    (98, 100, 104),
]
GROUNDS = {  # name: (RGB, grain of the texture in grey levels, how much of it is vegetation)
    "lawn": ((98, 128, 62), 20, 1.0),
    "lawn, mown": ((116, 144, 74), 14, 1.0),
    "lawn, dry": ((146, 142, 86), 18, 0.6),
    "meadow": ((108, 124, 58), 30, 1.0),
    "crop": ((142, 150, 70), 16, 0.9),
    "crop, furrow": ((112, 116, 56), 16, 0.8),
    "soil": ((134, 104, 76), 18, 0.1),
    "soil, furrow": ((110, 84, 60), 16, 0.1),
    "asphalt": ((96, 96, 98), 9, 0.0),
    "asphalt, old": ((124, 122, 118), 14, 0.0),
    "pavement": ((166, 160, 150), 8, 0.0),
    "kerb": ((196, 192, 184), 5, 0.0),
    "marking": ((236, 236, 230), 8, 0.0),
    "driveway": ((182, 174, 162), 9, 0.0),
    "gravel": ((188, 170, 136), 16, 0.0),
    "water": ((62, 88, 102), 5, 0.0),
    "shore": ((120, 120, 88), 14, 0.3),
    "pool": ((84, 180, 206), 5, 0.0),
    "plaza": ((188, 172, 156), 9, 0.0),
    "court": ((176, 88, 60), 6, 0.0),
    "earth": ((104, 92, 66), 20, 0.4),
    "red": ((222, 24, 20), 0, 0.0),
    "glass": ((56, 68, 82), 0, 0.0),
    "door": ((94, 54, 40), 0, 0.0),
    "trunk": ((88, 70, 54), 10, 0.0),
    "hedge": ((66, 94, 46), 26, 1.0),
    "vent": ((160, 160, 164), 4, 0.0),
    "chimney": ((132, 74, 58), 8, 0.0),
}
MATERIAL = {name: number for number, name in enumerate(GROUNDS)}
ROOF, WALL, TREE, CAR = 32, 64, 128, 144  # first numbers of the families
PLAIN, WINDOWS, DOOR, SHOP = 0, 16, 32, 48  # added to a wall's number: what is cut into it

SLOPE, UPRIGHT = 1, 17  # facing: 0 is flat ground, then 16 azimuths of a pitched roof, then 16 of a wall
PITCH = 0.62  # rise of a roof over its run

COLOURS = np.full((256, 3), 128, np.float32)  # RGB
GRAIN = np.zeros(256, np.float32)
VEGETATION = np.zeros(256, np.float32)
PATTERN = np.zeros(256, np.uint8)
for _name, (_rgb, _grain, _green) in GROUNDS.items():
    COLOURS[MATERIAL[_name]], GRAIN[MATERIAL[_name]], VEGETATION[MATERIAL[_name]] = _rgb, _grain, _green
for _style, (_roof, _wall) in enumerate(STYLES):
    COLOURS[ROOF + _style], GRAIN[ROOF + _style] = _roof, 12
    for _pattern in (PLAIN, WINDOWS, DOOR, SHOP):
        COLOURS[WALL + _style + _pattern], PATTERN[WALL + _style + _pattern] = _wall, _pattern
for _species, _rgb in enumerate(TREES):
    COLOURS[TREE + _species], GRAIN[TREE + _species], VEGETATION[TREE + _species] = _rgb, 34, 1.0
for _paint, _rgb in enumerate(CARS):
    COLOURS[CAR + _paint] = _rgb

# A tree's byte holds its species and the side of the crown: 16 * species + (0 for the middle, 1..8 for eight azimuths).
CROWN_MATERIAL = np.repeat(np.arange(16, dtype=np.uint8) + TREE, 16)
CROWN_FACING = np.array([0 if not 0 < code % 16 < 9 else SLOPE + 2 * (code % 16 - 1) for code in range(256)], np.uint8)
CROWN_BASE = np.repeat(np.array([18 + 4 * (species % 4) for species in range(16)], np.uint8), 16)  # decimetres


@functools.cache
def seamless_noise():
    """Noise of several wavelengths that repeats without a seam, (1024, 1024) float32 of mean 0 and deviation 1."""
    size, rng = 1024, np.random.default_rng(7)
    total = np.zeros((size, size), np.float32)
    for step, weight in ((1, 0.55), (4, 0.6), (16, 0.6), (64, 0.7)):
        coarse = rng.standard_normal((size // step, size // step), dtype=np.float32)
        wrapped = np.pad(coarse, 2, mode="wrap")
        fine = cv2.resize(wrapped, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += weight * fine[2 * step : 2 * step + size, 2 * step : 2 * step + size]
    return (total - total.mean()) / total.std()
