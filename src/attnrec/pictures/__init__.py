"""Where a run looks, as moving pictures, strips and pages."""
