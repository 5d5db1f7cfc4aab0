"""Generated clips of a small moving figure, for the demo: NumPy only, nothing to download.

N frames, P body parts, H and W the frame's height and width in pixels. A figure is laid out in units of its own height,
x to the right and y down with the ground at 0; angles are absolute, in degrees: 0 points down, 90 to +x, 180 up.
"""

from collections.abc import Callable, Iterator, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64] | NDArray[np.float32]
_Angle = _Floats | float  # (N,), or the same in every frame
_Size = tuple[int, int]  # width, height
_Window = tuple[slice, slice]

# Per part, the radius at either end (figure heights) and what it wears. Painted back to front: the far arm and leg
# first, the near arm last.
_ARM = ((0.044, 0.040, "shirt"), (0.040, 0.034, "skin"), (0.042, 0.042, "skin"))
_LEG = ((0.060, 0.052, "trousers"), (0.052, 0.044, "trousers"), (0.042, 0.038, "shoes"))
_BODY = ((0.078, 0.066, "shirt"), (0.034, 0.034, "skin"), (0.088, 0.088, "hair"), (0.074, 0.074, "skin"))
_PARTS = (*_ARM, *_LEG, *_LEG, *_BODY, *_ARM)
_RADII = np.array([part[:2] for part in _PARTS])  # (P, 2)
_FAR_PARTS = len(_ARM) + len(_LEG)
_OUTLINE = 0.022


@dataclass(frozen=True)
class SampleClip:
    """A labelled clip, with the box of its actor in every frame."""

    name: str  # v_<action>_g<NN>_c<NN>, as in UCF-11 and UCF-101
    action: str
    group: int  # from 1; its clips share actor and background style, so a split must keep them together
    fps: float
    frames: NDArray[np.uint8]  # (N, H, W, 3) RGB
    boxes: NDArray[np.int32]  # (N, 4): the actor's tight x0 y0 x1 y1 in pixels, half-open


class _Pose(NamedTuple):
    """Angles over a clip; limbs are upper and lower bone of the far (or -x) side, then of the near (or +x) one."""

    arms: Sequence[_Angle]
    legs: Sequence[_Angle]
    torso: _Angle
    lift: _Angle = 0.0  # figure heights above the ground
    travel: _Angle = 0.0  # figure heights along x
    half_width: float = 0.015  # half width of the shoulders, small when seen from the side


class _Style(NamedTuple):
    """The look that the clips of one group share; colours are in 0..1."""

    clothes: dict[str, Sequence[float] | _Floats]
    palette: _Floats  # (colours, 3)
    num_blobs: int
    num_panes: int


def _jump(phase: _Floats) -> _Pose:
    """Jumping jack: arms and legs fly out together."""
    # The root holds the open pose, the one that tells, for most of the time.
    spread = 0.15 + 0.85 * np.sqrt(0.5 - 0.5 * np.cos(phase))
    arm, forearm, thigh, shin = 18 + 112 * spread, 12 + 130 * spread, 4 + 38 * spread, 3 + 34 * spread
    arms, legs = (-arm, -forearm, arm, forearm), (-thigh, -shin, thigh, shin)
    return _Pose(arms, legs, torso=180, lift=0.1 * np.sin(phase) ** 2, half_width=0.085)


def _wave(phase: _Floats) -> _Pose:
    """Both arms overhead, swaying; legs together."""
    sway = np.sin(phase)
    arms = (-160 + 14 * sway, -178 + 38 * sway, 160 + 14 * sway, 178 + 38 * sway)
    return _Pose(arms, (-3, -2, 3, 2), torso=180 - 5 * sway, half_width=0.085)


def _pushup(phase: _Floats) -> _Pose:
    """Push-ups: a straight body, low and level, on arms that fold."""
    slope = 16 + 8 * np.cos(phase)
    leg = slope - 90
    # Both bones of the arm fold alike, so that the hands stay on the ground: shoulder height over arm length.
    fold = np.rad2deg(np.arccos(np.clip(0.72 * np.sin(np.deg2rad(slope)) / 0.33, 0, 1)))
    return _Pose((5 - fold, 5 + fold, -5 - fold, -5 + fold), (leg + 2, leg + 2, leg - 2, leg - 2), torso=90 + slope)


def _walk(phase: _Floats) -> _Pose:
    """Long strides to the front; the figure travels with them."""
    swing, far, near = np.sin(phase), np.clip(-np.cos(phase), 0, None), np.clip(np.cos(phase), 0, None)
    arms = (38 * swing, 28 + 34 * swing, -38 * swing, 28 - 34 * swing)
    legs = (12 * far - 34 * swing, -30 * far - 30 * swing, 12 * near + 34 * swing, -30 * near + 30 * swing)
    # A fixed path, however long the clip: the camera follows the rest of the way.
    return _Pose(arms, legs, torso=172, travel=np.linspace(-0.55, 0.55, len(phase)))


_ACTIONS: dict[str, Callable[[_Floats], _Pose]] = {"jump": _jump, "pushup": _pushup, "walk": _walk, "wave": _wave}
SAMPLE_ACTIONS: tuple[str, ...] = tuple(_ACTIONS)


def _step(start: _Floats, degrees: _Angle, length: float) -> _Floats:
    """The points (N, 2) that lie `length` away from `start` (N, 2)."""
    angle = np.deg2rad(degrees)
    return start + length * np.stack([np.sin(angle), np.cos(angle)], -1)


def _skeleton(pose: _Pose, num_frames: int) -> _Floats:
    """Both end points of every part, (N, P, 2, 2) in figure heights, x before y."""
    hip = np.zeros((num_frames, 2))
    chest, neck, head = (_step(hip, pose.torso, length) for length in (0.25, 0.34, 0.43))
    crown = _step(head, pose.torso, 0.018)
    arms, legs = [], []
    for side, sign in enumerate((-1, 1)):
        across = np.array([sign * pose.half_width, 0.0])
        shoulder, socket = chest + across, hip + 0.5 * across
        elbow = _step(shoulder, pose.arms[2 * side], 0.17)
        wrist = _step(elbow, pose.arms[2 * side + 1], 0.16)
        knee = _step(socket, pose.legs[2 * side], 0.24)
        ankle = _step(knee, pose.legs[2 * side + 1], 0.23)
        # Seen from the front the toes point apart, from the side both point ahead.
        toe = ankle + np.array([0.06 if pose.half_width < 0.05 else 0.04 * sign, 0.01])
        arms.append([(shoulder, elbow), (elbow, wrist), (wrist, wrist)])
        legs.append([(socket, knee), (knee, ankle), (ankle, toe)])
    parts = [*arms[0], *legs[0], *legs[1], (hip, chest), (chest, neck), (crown, crown), (head, head), *arms[1]]
    points = np.stack([np.stack(ends, 1) for ends in parts], 1)  # (N, P, 2, 2)
    points[..., 0] += np.reshape(pose.travel, (-1, 1, 1))
    points[..., 1] -= (points[..., 1].max(axis=(1, 2)) + pose.lift)[:, None, None]
    return points


def _place(points: _Floats, size: _Size, rng: np.random.Generator) -> tuple[_Floats, float]:
    """The skeleton in pixels, off-centre and wholly inside the frame, and its scale."""
    scale = rng.uniform(0.36, 0.4) * min(size)
    reach = _RADII.max() + _OUTLINE
    low, high = points.min(axis=(0, 1, 2)) - reach, points.max(axis=(0, 1, 2)) + reach
    # The whole path is centred on the drawn point, so that the place says nothing about the action.
    side = rng.choice([-1.0, 1.0], size=2)
    centre = (0.5 + side * rng.uniform([0.18, 0.02], [0.3, 0.22])) * np.array(size)
    half = scale * (high - low) / 2 + 1
    return (points - (low + high) / 2) * scale + np.clip(centre, half, np.array(size) - half), scale


def _capsule(ends: _Floats, radii: _Floats, pad: float, size: _Size) -> tuple[_Window, _Floats, _Floats]:
    """The window of the frame that one part can touch and, over it, the signed distance to the part and its radius."""
    reach = radii.max() + pad
    x0, y0 = np.maximum(ends.min(axis=0) - reach, 0).astype(int)
    x1, y1 = np.minimum(ends.max(axis=0) + reach + 1, size).astype(int)
    x, y = np.arange(x0, x1) + 0.5 - ends[0, 0], (np.arange(y0, y1) + 0.5 - ends[0, 1])[:, None]
    bone_x, bone_y = ends[1] - ends[0]
    along = np.minimum(np.maximum((x * bone_x + y * bone_y) / max(bone_x**2 + bone_y**2, 1e-6), 0), 1)
    radius = radii[0] + along * (radii[1] - radii[0])
    distance = np.sqrt((x - along * bone_x) ** 2 + (y - along * bone_y) ** 2) - radius
    return (slice(y0, y1), slice(x0, x1)), distance, radius


def _paint_figure(frame: _Floats, points: _Floats, scale: float, style: _Style) -> tuple[int, int, int, int]:
    """Paint one figure (P, 2, 2) over `frame` (H, W, 3) in place; its tight box."""
    height, width, _ = frame.shape
    outline = _OUTLINE * scale
    parts = [_capsule(*part, outline + 1, (width, height)) for part in zip(points, _RADII * scale, strict=True)]
    touched = np.zeros((height, width), dtype=bool)
    for window, distance, _ in parts:
        alpha = np.minimum(np.maximum(0.5 - distance + outline, 0), 1)
        touched[window] |= alpha > 0
        frame[window] *= (1 - alpha)[..., None]
    for index, (window, distance, radius) in enumerate(parts):
        # Darker towards the rim and on the far side: limbs that cross stay readable.
        light = np.minimum(0.8 - 0.4 * distance / radius, 1) * (0.8 if index < _FAR_PARTS else 1.0)
        alpha = np.minimum(np.maximum(0.5 - distance, 0), 1)[..., None]
        frame[window] += alpha * (light[..., None] * style.clothes[_PARTS[index][2]] - frame[window])
    rows, columns = np.nonzero(touched.any(axis=1))[0], np.nonzero(touched.any(axis=0))[0]
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _draw_style(rng: np.random.Generator) -> _Style:
    """Bright warm clothes before a darker cool palette: the actor stands out, in every group alike."""
    tone = rng.uniform(0, 1)
    clothes: dict[str, Sequence[float] | _Floats] = {
        "shirt": hsv_to_rgb(rng.uniform(0.0, 0.17), rng.uniform(0.45, 0.75), 1.0),
        "trousers": hsv_to_rgb(rng.uniform(0.0, 0.17), rng.uniform(0.05, 0.3), 0.97),
        "skin": (1 - tone) * np.array([1.0, 0.86, 0.74]) + tone * np.array([0.78, 0.56, 0.42]),
        "hair": hsv_to_rgb(rng.uniform(0.02, 0.12), 0.65, rng.uniform(0.3, 0.7)),
        "shoes": (0.97, 0.97, 0.97),
    }
    hues = rng.uniform(0.52, 0.76) + rng.uniform(-0.14, 0.14, 6)
    palette = np.array(
        [hsv_to_rgb(hue, rng.uniform(0.45, 0.8), rng.uniform(0.25, 0.5)) for hue in hues], dtype=np.float32
    )
    return _Style(clothes, palette, int(rng.integers(14, 24)), int(rng.integers(5, 10)))


def _drift(rng: np.random.Generator, seconds: _Floats, count: int) -> _Floats:
    """Paths (N, count, 2) in frame widths and heights that wander past the edges and back."""
    speed, start = rng.uniform(0.15, 0.6, (count, 2)), rng.uniform(0, 2 * np.pi, (count, 2))
    amplitude, centre = rng.uniform(0.1, 0.35, (count, 2)), rng.uniform(0, 1, (count, 2))
    return centre + amplitude * np.sin(speed * 2 * np.pi * seconds[:, None, None] + start)


def _background(style: _Style, seconds: _Floats, size: _Size, rng: np.random.Generator) -> Iterator[_Floats]:
    """Yield the frames (H, W, 3) in 0..1: blobs of the palette that flow into each other, tinted panes over them."""
    x, y = ((np.arange(length) + 0.5) / length for length in size)
    blobs, panes = _drift(rng, seconds, style.num_blobs), _drift(rng, seconds, style.num_panes)
    blob_colours, pane_colours = (style.palette[rng.integers(len(style.palette), size=n)] for n in style[2:])
    spread = rng.uniform(0.06, 0.16, style.num_blobs)[:, None]
    half = rng.uniform(0.05, 0.18, (style.num_panes, 2))
    for blob, pane in zip(blobs, panes, strict=True):
        # Gaussians and panes are products of a row and a column: the mixture is one matrix product per channel.
        # Single precision: faster, and still finer than the eight bits of a colour.
        across = np.exp(-0.5 * ((x - blob[:, :1]) / spread) ** 2).astype(np.float32)
        down = np.exp(-0.5 * ((y - blob[:, 1:]) / spread) ** 2).astype(np.float32)
        mixture = (down * blob_colours.T[..., None]).swapaxes(1, 2) @ across  # (3, H, W)
        planes = (mixture + 0.05 * style.palette[0][:, None, None]) / (down.T @ across + 0.05)
        in_x = np.clip(0.5 + (half[:, :1] - np.abs(x - pane[:, :1])) * 24, 0, 1).astype(np.float32)
        in_y = np.clip(0.5 + (half[:, 1:] - np.abs(y - pane[:, 1:])) * 18, 0, 1).astype(np.float32)
        for row, column, colour in zip(in_x, in_y, pane_colours, strict=True):
            planes += np.outer(0.55 * column, row) * (colour[:, None, None] - planes)
        yield np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def _draw_clip(
    action: str, seconds: _Floats, size: _Size, style: _Style, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    phase = 2 * np.pi * (rng.uniform(0.7, 1.0) * seconds + rng.uniform(0, 1))
    points = _skeleton(_ACTIONS[action](phase), len(phase))
    points[..., 0] *= rng.choice([-1, 1])
    points, scale = _place(points, size, rng)
    frames, boxes = [], []
    for frame, figure in zip(_background(style, seconds, size, rng), points, strict=True):
        boxes.append(_paint_figure(frame, figure, scale, style))
        frames.append(np.rint(frame * 255).astype(np.uint8))
    return np.stack(frames), np.array(boxes, dtype=np.int32)


def generate_clips(
    *,
    num_groups: int,
    clips_per_group: int = 1,
    num_frames: int,
    fps: float = 10.0,
    width: int = 160,
    height: int = 120,
    seed: int = 0,
) -> Iterator[SampleClip]:
    """Generate labelled clips, `num_groups * clips_per_group` for each of `SAMPLE_ACTIONS`.

    A clip depends on seed, action, group and clip number, never on how many others are asked for. Place, facing,
    colours and background are drawn alike for every action: only the poses tell them apart.

    Args:
        num_groups: Groups per action; the actions share the groups' actors and background styles.
        clips_per_group: Clips per action and group, which differ in place, facing, tempo and background motion.
        num_frames: Frames per clip.
        fps: Frames per second; an action repeats 0.7 to 1 times per second.
        width: Frame width in pixels.
        height: Frame height in pixels.
        seed: Seed of everything random, not negative.

    Yields:
        The clips by action, then group, then clip.

    Raises:
        ValueError: A count is below one, the frame is smaller than 32 x 32, or `fps` or `seed` is out of range.
    """
    if min(num_groups, clips_per_group, num_frames) < 1:
        raise ValueError(f"counts must be at least 1: {num_groups=}, {clips_per_group=}, {num_frames=}")
    if min(width, height) < 32 or not 0 < fps < np.inf or seed < 0:
        raise ValueError(f"need 32 x 32 px or more, fps > 0, seed >= 0: {width=}, {height=}, {fps=}, {seed=}")
    seconds = np.arange(num_frames) / fps
    for action_index, action in enumerate(SAMPLE_ACTIONS):
        for group in range(1, num_groups + 1):
            style = _draw_style(np.random.default_rng([seed, 0, group]))
            for clip in range(1, clips_per_group + 1):
                rng = np.random.default_rng([seed, 1, action_index, group, clip])
                name = f"v_{action}_g{group:02d}_c{clip:02d}"
                frames, boxes = _draw_clip(action, seconds, (width, height), style, rng)
                yield SampleClip(name, action, group, fps, frames, boxes)
