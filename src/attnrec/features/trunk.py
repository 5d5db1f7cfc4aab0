"""From settings to what computes features: the trunk, the frames it sees, and what identifies the result."""

from collections.abc import Sequence
from pathlib import Path

from attnrec.features.backbone import Trunk
from attnrec.features.weights import build_trunk, weights_sha256
from attnrec.settings import ExtractConfig
from attnrec.specs import FeatureSpec
from attnrec.video.decode import FrameReader

IMAGE_SIZE = 224  # side in px of what the network sees


def prepare_trunk(config: ExtractConfig, precision: str) -> tuple[Trunk, list[FeatureSpec]]:
    """The trunk that the settings ask for, and what identifies the features of each of its layers.

    Args:
        config: Settings.
        precision: `fp32` or `bf16`.

    Raises:
        ConfigError: There is no such layer, or it gives no spatial map.
        WeightsError: The weights cannot be had.
    """
    trunk, weights_id = build_trunk(config.backbone, config.weights, layers=config.layers, grid_size=config.grid_size)
    specs = [
        FeatureSpec(
            backbone=config.backbone,
            layer=layer,
            weights_id=weights_id,
            weights_sha256=weights_sha256(trunk.weights_state(layer)),
            grid_size=K,
            feature_dim=D,
            image_size=IMAGE_SIZE,
            resize=config.resize,
            sample_fps=config.sample_fps,
            precision=precision,
        )
        for layer, (K, D) in trunk.cube_shapes(IMAGE_SIZE).items()
    ]
    return trunk, specs


def frame_reader(path: Path, spec: FeatureSpec) -> FrameReader:
    """A reader of the frames that features of these settings are computed from."""
    return FrameReader(path, width=spec.image_size, height=spec.image_size, resize=spec.resize, max_fps=spec.sample_fps)


def frame_bytes(specs: Sequence[FeatureSpec]) -> int:
    """Bytes of one frame's cubes, of all layers."""
    return sum(spec.num_locations * spec.feature_dim * 2 for spec in specs)
