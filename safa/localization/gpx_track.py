"""A drive's order, headings and positions from the photos' times and a GPX track."""

import dataclasses
import datetime

import numpy as np

from safa.localization.coordinates import LocalFrame, needed, problem_of
from safa.localization.rough_position import rough_position
from safa.runtime.cluster import say
from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import read_file
from safa.settings import FULL_CIRCLE

COURSE_METRES = 5.0  # before and after a photo that the course is taken over
MOVED_METRES = 2.5  # that it must lead away in these: half of what is there at a track's ends; GPS of a car that stands wanders
GAP_SECONDS = 60.0  # loggers write points each second to half a minute; in a longer step a car is out of sight, or turned back


@dataclasses.dataclass(frozen=True)
class TrackConfig(Checked):
    """The track of a drive, and how the camera stood on the car."""

    gpx: str | None = setting(
        None,
        "track of the drive: by the photos' times it gives their order, headings, rough positions and steps",
        metavar="FILE.gpx",
    )
    mount: float = setting(
        0.0,
        "angle from the car's course to the panoramas' centre columns, clockwise",
        at_least(float, -FULL_CIRCLE, FULL_CIRCLE),
        metavar="DEGREES",
    )
    clock: float = setting(
        0.0, "seconds that the camera's clock is behind the track's", at_least(float, -1e9, 1e9), metavar="SECONDS"
    )


class Track:
    """A GPX track: where it was at a time, and which way it went; not between segments, or in a move of over GAP_SECONDS.

    Raises:
        UserError: the file cannot be read, holds fewer than two points with times, or one that is not on Earth.
    """

    def __init__(self, path):
        gpxpy = needed("gpxpy", "--gpx")
        try:
            found = gpxpy.parse(read_file(path).decode("utf-8-sig"))
        except (gpxpy.gpx.GPXException, ValueError) as error:
            raise UserError(f"{shortened(path)}: not a GPX file ({first_line(error)}); name another one") from None
        segments = [[point for point in own.points if point.time] for track in found.tracks for own in track.segments]
        points = [point for segment in segments for point in segment]
        self.seconds = np.array([_seconds(point.time) for point in points])
        if len(points) < 2 or not (np.diff(self.seconds) >= 0).all():
            raise UserError(f"{shortened(path)}: a track needs two points or more with times, in order; name another file")
        for point in points:
            if problem := problem_of(point.longitude, point.latitude):
                raise UserError(f"{shortened(path)}: its point of {point.time.isoformat()} {problem}; correct or remove it")
        locations = [(point.longitude, point.latitude) for point in points]
        self._frame = LocalFrame.around(locations)
        self._metres = np.ascontiguousarray(self._frame.metres(locations).T)
        steps = np.hypot(*np.diff(self._metres))
        self._travelled = np.concatenate([[0], np.cumsum(steps)])
        of_segment = np.repeat(range(len(segments)), list(map(len, segments)))
        is_gap = (np.diff(self.seconds) > GAP_SECONDS) & (steps > COURSE_METRES)  # some loggers write nothing while they stand
        self._piece = np.cumsum([0, *(np.diff(of_segment) > 0) | is_gap])

    def at(self, seconds):
        """(longitude, latitude) at a time, None in a gap; and the course in degrees, None where it stands or turns back."""
        before, after = np.searchsorted(self.seconds, seconds, "right") - 1, np.searchsorted(self.seconds, seconds)
        if self._piece[before] < self._piece[after]:
            return None, None
        own = slice(*np.searchsorted(self._piece, self._piece[before] + (0, 1)))
        travelled = np.interp(seconds, self.seconds[own], self._travelled[own])
        steps = travelled - COURSE_METRES, travelled, travelled + COURSE_METRES
        places = np.stack([np.interp(steps, self._travelled[own], axis[own]) for axis in self._metres], axis=1)
        before, here, after = map(tuple, self._frame.locations(places).tolist())
        course, _, moved = needed("pyproj").Geod(ellps="WGS84").inv(*before, *after)  # true north, not the frame's
        return here, course % FULL_CIRCLE if moved >= MOVED_METRES else None


def along_track(panoramas, track_config, config):
    """Panoramas in the order of their times, with the track's headings (where none is given or listed) and positions.

    In a gap of the track, and without a course, they stay as they are; lines say how many lie in gaps, or name no time zone.

    Args:
        track_config: TrackConfig, with a GPX file.
        config: places.QueryConfig.
    """
    track, found, gaps = Track(track_config.gpx), [], 0
    for panorama in panoramas:
        time, changes = panorama.photo.time, {}
        seconds = np.inf if time is None else _seconds(time)
        if panorama.problem is None and not track.seconds[0] <= seconds + track_config.clock <= track.seconds[-1]:
            what = "no time in its tags" if time is None else "taken outside the times of the track"
            changes["problem"] = f"{panorama.path}: {what}"
        elif panorama.problem is None:
            location, course = track.at(seconds + track_config.clock)
            gaps += location is None
            if location is not None:
                changes |= {"track": location, "rough": rough_position(config, location) or panorama.rough}
            if course is not None and panorama.heading_source in ("photo", "assumed"):
                changes |= {"heading": (course + track_config.mount) % FULL_CIRCLE, "heading_source": "track"}
        found.append((seconds, dataclasses.replace(panorama, **changes)))
    if gaps:
        say(f"{gaps:,} photos were taken in gaps of the track, which gives no position there")
    times = [panorama.photo.time for panorama in panoramas if panorama.photo.time is not None]
    if (local := sum(time.tzinfo is None for time in times)) and not track_config.clock:
        say(f"{local:,} photos' times name no time zone and are taken as UTC's, the track's; --clock corrects them")
    return [panorama for _, panorama in sorted(found, key=lambda own: own[0])]


def _seconds(time):
    return (time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)).timestamp()
