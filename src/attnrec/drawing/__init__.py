"""Arrays in, pictures, plots and pages out: knows no run and no store."""
