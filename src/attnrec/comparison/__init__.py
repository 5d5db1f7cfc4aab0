"""Comparison of runs: tables, the grid that trains them, and the report page."""
