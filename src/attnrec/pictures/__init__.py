"""Pictures of where a run looks: moving pictures, strips and pages."""
