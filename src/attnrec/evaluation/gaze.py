"""What is said of attention that is much the same everywhere, of which a picture would show but an even grey."""

from attnrec.metrics import is_nearly_uniform

NOWHERE = "attention is close to uniform: this run looks nowhere in particular"


def gaze_note(entropy: float) -> str:
    """Words for a picture of attention of such an entropy, see `metrics.attention_entropy`; none where it is peaked."""
    return NOWHERE if is_nearly_uniform(entropy) else ""


def gaze_advice(entropy: float | None, form: str | None) -> str:
    """Words for who made a run, with what to try; none where its attention is peaked, or it has none.

    Args:
        entropy: Mean over a run's blocks, see `metrics.attention_entropy`; None without attention.
        form: What scores its locations, see `TrainConfig.attention`.
    """
    if entropy is None or not is_nearly_uniform(entropy):
        return ""
    other = "" if form == "saliency" else "--attention saliency or "
    return f"{NOWHERE} (entropy {entropy:.3f} of uniform); try {other}a longer training"
