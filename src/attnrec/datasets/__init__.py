"""Folders, lists and tables of labelled videos, and their splits."""
