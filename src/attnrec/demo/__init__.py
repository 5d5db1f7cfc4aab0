"""The whole chain on generated clips."""
