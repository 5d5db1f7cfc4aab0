"""Runs side by side: tables, the grid that trains them, the report."""
