"""Notes on attention that is close to uniform, of which a picture would be an even grey."""

from attnrec.metrics import is_nearly_uniform

NOWHERE = "attention is close to uniform: this run looks nowhere in particular"


def gaze_note(entropy: float) -> str:
    """Note for a picture, given its `metrics.attention_entropy`; empty if the attention is not close to uniform."""
    return NOWHERE if is_nearly_uniform(entropy) else ""


def gaze_advice(entropy: float | None, form: str | None) -> str:
    """Advice on a run whose attention is close to uniform; empty for other runs and those without attention.

    Args:
        entropy: Mean `metrics.attention_entropy` over a run's blocks; None without attention.
        form: Form of its attention, see `TrainConfig.attention`.
    """
    if entropy is None or not is_nearly_uniform(entropy):
        return ""
    other = "" if form == "saliency" else "--attention saliency or "
    return f"{NOWHERE} (entropy {entropy:.3f} of uniform); try {other}a longer training"
