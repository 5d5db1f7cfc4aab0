"""Pure tensor code: the paper's recogniser, its baselines, its loss and the CNN trunk."""
