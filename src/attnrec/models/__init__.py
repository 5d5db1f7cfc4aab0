"""The paper's recogniser, its baselines and its loss, as pure tensor code."""
