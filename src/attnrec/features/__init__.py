"""Videos to feature cubes: the CNN trunk, the feature store and its blocks."""
