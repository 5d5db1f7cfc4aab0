"""Evaluation of runs: accuracy or mAP with confidence intervals, predictions, and faithfulness of the attention."""
