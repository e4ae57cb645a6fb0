"""Using a trained checkpoint on new songs."""
