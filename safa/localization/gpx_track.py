"""A drive's order, headings and positions from the photos' times and a GPX track."""

import dataclasses
import datetime

import numpy as np

from safa.localization.coordinates import LocalFrame, needed
from safa.localization.rough_position import rough_position
from safa.runtime.command_line import Checked, at_least, setting
from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import read_file
from safa.settings import FULL_CIRCLE

COURSE_METRES = 5.0  # before and after a photo that the course is taken over: a car that stands still has none


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
    """A GPX track: where it was at a time, and which way it went.

    Raises:
        UserError: the file cannot be read, or holds fewer than two points with times.
    """

    def __init__(self, path):
        gpxpy = needed("gpxpy", "--gpx")
        try:
            found = gpxpy.parse(read_file(path).decode("utf-8-sig"))
        except (gpxpy.gpx.GPXException, ValueError) as error:
            raise UserError(f"{shortened(path)}: not a GPX file ({first_line(error)}); name another one") from None
        points = [point for track in found.tracks for segment in track.segments for point in segment.points if point.time]
        self.seconds = np.array([_seconds(point.time) for point in points])
        if len(points) < 2 or not (np.diff(self.seconds) >= 0).all():
            raise UserError(f"{shortened(path)}: a track needs two points or more with times, in order; name another file")
        locations = [(point.longitude, point.latitude) for point in points]
        self._frame = LocalFrame.around(locations)
        self._metres = self._frame.metres(locations)
        self._travelled = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(self._metres, axis=0), axis=1))])

    def at(self, seconds):
        """(longitude, latitude) at a time, and the course in degrees clockwise from north; None if it is outside."""
        if not self.seconds[0] <= seconds <= self.seconds[-1]:
            return None
        travelled = np.interp(seconds, self.seconds, self._travelled)
        east, north = self._place(travelled + COURSE_METRES) - self._place(travelled - COURSE_METRES)
        course = float(np.degrees(np.arctan2(east, north))) % FULL_CIRCLE
        return tuple(self._frame.locations(self._place(travelled))[0].tolist()), course

    def _place(self, travelled):
        return np.array([np.interp(travelled, self._travelled, axis) for axis in self._metres.T])


def along_track(panoramas, track_config, config):
    """Panoramas in the order of their times, with the track's headings (where none is given or listed) and positions.

    Args:
        track_config: TrackConfig, with a GPX file.
        config: places.QueryConfig.
    """
    track, found = Track(track_config.gpx), []
    for panorama in panoramas:
        time, problem, changes = panorama.photo.time, panorama.problem, {}
        seconds = np.inf if time is None else _seconds(time)
        if problem is None and (place := track.at(seconds + track_config.clock)) is None:
            what = "no time in its tags" if time is None else "taken outside the times of the track"
            changes["problem"] = f"{panorama.path}: {what}"
        elif problem is None:
            location, course = place
            changes |= {"track": location, "rough": rough_position(config, location)}
            if panorama.heading_source in ("photo", "assumed"):
                changes |= {"heading": (course + track_config.mount) % FULL_CIRCLE, "heading_source": "track"}
        found.append((seconds, dataclasses.replace(panorama, **changes)))
    return [panorama for _, panorama in sorted(found, key=lambda own: own[0])]


def _seconds(time):
    return (time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)).timestamp()
