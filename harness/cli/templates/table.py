"""Likelihood beside the time that it took: replace it with the rows that you want to see."""

TITLE = "New table"
CAPTION = "Negative log-likelihood of the test set, in nats per row, and seconds of training and measuring, best first"
METRICS = ("-log p",)  # numbers without which there is nothing to show; may be left out
DECIMALS = 2  # at most


def data(measured):
    """The rows of the table and of its csv file, a DataFrame.

    measured: a row per model and metric, seeds pooled, with columns dataset, method, variant, title, kind, layers,
    metric, value, sem, n_seeds, seconds, status ... In print, a column `x_sem` is the standard error of `x`.
    """
    rows = measured[measured["metric"] == "-log p"].sort_values(["dataset", "value"])
    rows = rows.rename(columns={"title": "model", "value": "-log p", "sem": "-log p_sem"})
    return rows[["model", "dataset", "-log p", "-log p_sem", "seconds"]]
