"""A run's figures: accuracy or mAP with intervals, predictions, and whether the attention can be trusted."""
