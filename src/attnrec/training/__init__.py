"""Training: from settings to a recipe, the training loop, checkpoints and the run directory."""
