"""Likelihoods of all models with their errors: replace it with what you want to see."""

from harness.reporting.figures import panels, style

TITLE = "New figure"
CAPTION = "Negative log-likelihood of the test set, in nats per row; bars are standard errors."
ANALYSES = ("metrics",)  # what it is drawn from: the measured numbers, or names that `harness list analyses` shows


def data(measured):
    """The rows of the csv file, a DataFrame; one argument per word of ANALYSES, each a table of all models."""
    rows = measured[measured["metric"] == "-log p"].sort_values("value")
    return rows[["dataset", "method", "title", "variant", "value", "sem"]]


def draw(data):
    """The matplotlib figure, from the csv file as it was read back."""
    names = panels.datasets(data)
    looks = style.look(data["method"])
    figure, grid = panels.grid(len(names), "-log p", "")
    for axes, name in zip(grid, names, strict=True):
        for row in data[data["dataset"] == name].itertuples():
            axes.errorbar(row.value, row.title, xerr=row.sem, linestyle="", **looks[row.method])
        axes.set_title(name)
    return figure
