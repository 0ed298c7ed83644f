"""Programs that run, to copy and to change."""
