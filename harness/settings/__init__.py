"""Settings: read, checked and resolved to cells; the seeds that follow from a cell."""
