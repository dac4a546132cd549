"""Building blocks that several methods share: layers and whole networks, without any training rule."""
