"""Everything about files: videos, dataset layouts, the feature store and its blocks."""
