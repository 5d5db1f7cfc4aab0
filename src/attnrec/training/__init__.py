"""Feature cubes to a run: what is asked, what is done, the loop, and the run directory."""
