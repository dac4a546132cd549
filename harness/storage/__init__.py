"""The files that a run leaves on disk: configuration, status, checkpoints, weights, measurements, and their digests."""
