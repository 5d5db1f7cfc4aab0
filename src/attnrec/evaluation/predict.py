"""Applies a trained run to clips: predicts their classes, and finds where the run looks.

Legend: N stored frames of a clip, S drawn samples, K grid side, C classes.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnrec.datasets.folders import dataset_root, scan_videos
from attnrec.drawing.tables import TextTable
from attnrec.errors import RunError, VideoError
from attnrec.evaluation.attended import AttendedClip, Prediction
from attnrec.evaluation.on_frame import layer_maps, on_frame
from attnrec.features.blocks import blocks_of, covering_blocks
from attnrec.features.extractor import CubeExtractor, frame_reader
from attnrec.features.feed import CubeFeed
from attnrec.files import write_error
from attnrec.metrics import reduce_blocks
from attnrec.runtime import OnProgress, Progress, no_progress, prepare_cpu, resolve_device
from attnrec.training.run import RunLike, as_run
from attnrec.training.score import passes_of, require_draws, score_blocks
from attnrec.video.decode import DecodeSummary


@dataclass(frozen=True)
class ClipFeatures:
    """Features of a clip as in a store: each layer's cubes, times (N,) in seconds, and how decoding ended."""

    layers: list[NDArray[np.float16]]  # (N, K, K, D)
    pts: NDArray[np.float64]
    summary: DecodeSummary


@dataclass(frozen=True)
class PredictReport:
    """Predictions of all clips, and the path and reason of each clip that could not be decoded."""

    run: str
    predictions: list[Prediction]
    skipped: list[tuple[str, str]]

    def __repr__(self) -> str:
        return f"PredictReport({self.run}: {len(self.predictions)} clips predicted, {len(self.skipped)} skipped)"

    def _repr_html_(self) -> str:
        from attnrec.drawing.notebook import table_html

        rows = [(of.path, str(of), of.status) for of in self.predictions]
        notes = [f"skipped {path}: {reason}" for path, reason in self.skipped]
        return table_html(TextTable(f"By {self.run}", ["clip", "predicted", "video"], rows, (0, 1, 2), notes))


class Recognizer:
    """A run loaded to predict clips. Predicts the same as `evaluate` for the same video.

    Args:
        run: The run, its folder, or a report of it.
        device: Device to run on, see `runtime.resolve_device`.
        jobs: CPU threads.
        samples: Number of passes in which hard attention draws where it looks, see `score.Passes`; 0 for one that looks
            at the most probable locations.

    Raises:
        RunError: The run cannot be used.
        ConfigError: Samples are asked of a run without hard attention.
    """

    def __init__(self, run: RunLike, *, device: str = "auto", jobs: int | None = None, samples: int = 0) -> None:
        self.run = as_run(run)
        require_draws(self.run, samples)
        self.samples = samples
        self._device = resolve_device(device)
        prepare_cpu(1 if self._device.type == "cuda" else jobs)
        self._model = self.run.load_model(self._device)
        spec = self.run.manifest.features
        self._extractor = CubeExtractor(self.run.load_trunk(), device=self._device, precision=spec.precision)

    def __repr__(self) -> str:
        of = self.run.manifest
        form = f" {of.model.attention}" if of.model.architecture == "attention" else ""
        spec, classes = of.features, f"{len(of.classes)} classes"
        return (
            f"Recognizer({self.run.path}: {of.model.architecture}{form}, {classes}, {spec.backbone} {spec.layer}, "
            f"{self._device})"
        )

    def _repr_html_(self) -> str:
        return self.run._repr_html_()

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.run.manifest.classes

    def predict(self, video: str | Path) -> Prediction:
        """Predict the class probabilities of a clip from all its blocks, as `evaluate` does by default.

        Raises:
            VideoError: The clip cannot be decoded.
        """
        return self._predict(Path(video), self.features(video))

    def attend(self, video: str | Path) -> AttendedClip:
        """Compute where the run looks in a clip, sample by sample.

        Raises:
            VideoError: The clip cannot be decoded.
            RunError: The run's model has no attention.
        """
        manifest = self.run.manifest
        if manifest.model.architecture != "attention":
            raise RunError(
                f"{self.run.path}: {manifest.model.architecture} has no attention; name another run by --run"
            )
        clip = self.features(video)
        training = manifest.training
        summary = clip.summary
        frames, drawn = covering_blocks(clip.pts, summary.duration_seconds, training.fps, training.block_frames)
        scores = score_blocks(
            self._model,
            self._feed(clip),
            frames,
            keep_attention=True,
            multilabel=manifest.model.multilabel,
            passes=passes_of(self.run, self.samples, np.zeros(len(frames), np.int64)),
        )
        assert scores.attention is not None
        attention, K, grids = scores.attention[drawn], manifest.features.grid_size, manifest.features.grids
        looked_at = None if scores.looked_at is None else on_frame(scores.looked_at[drawn], grids).reshape(-1, K, K)
        return AttendedClip(
            prediction=self._predict(Path(video), clip),
            frames=frames[drawn],
            times=clip.pts[frames[drawn]],
            attention=on_frame(attention, grids).reshape(-1, K, K),
            layers=dict(zip([name for name, _, _ in grids], layer_maps(attention, grids), strict=True)),
            frame_probs=scores.frame_probs[drawn],
            end=summary.duration_seconds,
            own_fps=summary.effective_fps,
            is_variable_rate=summary.is_variable_rate,
            looked_at=looked_at,
            sample_fps=manifest.features.sample_fps,
            resize=manifest.features.resize,
        )

    def features(self, video: str | Path) -> ClipFeatures:
        """Decode a clip and run the trunk over it, as `extract` does.

        Cubes are mapped from an unnamed temporary file, so that a long clip does not fill the memory.

        Raises:
            VideoError: The clip cannot be decoded.
            AttnrecError: There is no room for temporary files.
        """
        reader = frame_reader(Path(video), self.run.manifest.features)
        decoded: Iterator[tuple[NDArray[np.uint8], float]] = iter(reader)
        pts: list[float] = []
        grids = self.run.manifest.features.grids
        (batch,) = self._extractor.batches(1)
        with ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in grids]
            while chunk := list(islice(decoded, len(batch))):
                np.stack([frame for frame, _ in chunk], out=batch[: len(chunk)])
                cubes = self._extractor.submit(batch, len(chunk))()
                try:
                    for file, (layer, _, _) in zip(files, grids, strict=True):
                        file.write(cubes[layer].tobytes())
                        file.flush()
                except OSError as error:
                    raise write_error(Path(tempfile.gettempdir()), error) from None
                pts += [time for _, time in chunk]
            mapped: list[NDArray[np.float16]] = [
                np.memmap(file, np.float16, mode="c", shape=(len(pts), K, K, D))
                for file, (_, K, D) in zip(files, grids, strict=True)
            ]
        assert reader.summary is not None
        return ClipFeatures(mapped, np.array(pts), reader.summary)

    def _feed(self, clip: ClipFeatures) -> CubeFeed:
        return CubeFeed(clip.layers, self.run.manifest.feature_scales, self._device)

    def _predict(self, video: Path, clip: ClipFeatures) -> Prediction:
        manifest, training = self.run.manifest, self.run.manifest.training
        frames = blocks_of(clip.pts, training.fps, training.block_frames, training.block_stride, training.block_starts)
        owner = np.zeros(len(frames), np.int64)
        passes = passes_of(self.run, self.samples, owner)
        scores = score_blocks(
            self._model, self._feed(clip), frames, multilabel=manifest.model.multilabel, passes=passes
        )
        probs = reduce_blocks(scores.frame_probs, owner, training.reduction, training.last_steps)[0]
        best = int(probs.argmax())
        likely = np.flatnonzero(probs >= 0.5) if manifest.model.multilabel else [best]
        return Prediction(
            path=str(video),
            predicted=self.classes[best],
            probability=float(probs[best]),
            labels=[self.classes[i] for i in likely],
            probs={name: float(p) for name, p in zip(self.classes, probs, strict=True)},
            num_blocks=len(frames),
            status=clip.summary.status,
        )


def load_run(run: RunLike, *, device: str = "auto") -> Recognizer:
    """Load a trained run, given itself, its folder or a report of it. Raises as `Recognizer`."""
    return Recognizer(run, device=device)


def clips_of(videos: Sequence[Path]) -> list[Path]:
    """Expand folders to their videos; other paths are taken as clips.

    Raises:
        DataError: A folder holds no video, or is not there.
    """
    return [
        clip
        for path in videos
        for clip in ([dataset_root(path) / e.path for e in scan_videos(path)] if path.is_dir() else [path])
    ]


def predict(
    recognizer: Recognizer | RunLike, videos: Sequence[str | Path], *, on_progress: OnProgress = no_progress
) -> PredictReport:
    """Predict clips and all videos of folders; clips that cannot be decoded are listed as skipped.

    Args:
        recognizer: The run, loaded, itself, its folder, or a report of it.
        videos: Clips and folders.
        on_progress: Called for every clip.

    Returns:
        Predictions in the order of the clips.

    Raises:
        DataError: A folder holds no video, or is not there.
    """
    recognizer = recognizer if isinstance(recognizer, Recognizer) else Recognizer(recognizer)
    clips = clips_of([Path(video) for video in videos])
    predictions, skipped = [], []
    for done, clip in enumerate(clips):
        on_progress(Progress("predict", done, len(clips), str(clip)))
        try:
            predictions.append(recognizer.predict(clip))
        except VideoError as error:
            skipped.append((str(clip), error.reason))
            on_progress(Progress("predict", message=f"skipped {error}"))
    on_progress(Progress("predict", len(clips), len(clips)))
    return PredictReport(str(recognizer.run.path), predictions, skipped)
