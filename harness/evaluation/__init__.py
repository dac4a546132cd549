"""Measuring a trained model on the test set, and the analyses behind the figures."""
