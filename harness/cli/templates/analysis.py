"""How often each column is 1 in drawn and in test rows: replace it with what you want to know of a trained model."""

import pandas as pd

from harness.ranges import Size

NEEDS = ("sampling",)  # capabilities of a method, as `harness list methods` names them


def analyse(subject, rows: Size = 1000):
    """Columns column, drawn, test: a DataFrame, which is kept as runs/.../analyses/new_analysis.csv.

    subject.model is in evaluation mode, subject.test.x [B, D] are test rows, and subject.generator() has random numbers
    that are the same at every call. Further arguments are what the settings say, data set by data set.
    """
    drawn = subject.model.sample(rows, subject.generator()).double().mean(0).cpu()  # [D]
    test = subject.test.x.double().mean(0).cpu()  # [D]
    return pd.DataFrame({"column": range(len(test)), "drawn": drawn, "test": test})
