"""How far model and test rows are apart in the mean of each column: replace it with what you want to know."""

import torch

NAME = "new_metric"  # in metrics.parquet, tables and checks
TITLE = "New metric"
UNIT = "share"  # nats, percent, share, or a word of your own, with MATTERS = the difference that matters
BETTER = "lower"  # or "higher", or "neither"
DECIMALS = 3  # at most, in tables
NEEDS = ("sampling",)  # capabilities of a method, as `harness list methods` names them
SOURCE = "not published yet"


def measure(subject):
    """A number, a number and its standard error, or values of the test rows ``subject.test.x`` [B, D] as a tensor [B].

    subject.model is in evaluation mode; subject.generator() has random numbers that are the same at every call.
    """
    drawn = subject.model.sample(1000, subject.generator()).float()  # [1000, D]
    return torch.mean((drawn.mean(0) - subject.test.x.float().mean(0)).abs())
