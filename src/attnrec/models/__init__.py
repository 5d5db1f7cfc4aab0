"""Pure tensor code: the paper's recogniser, its baselines and its loss."""
