"""Whether learning beats counting ones, on every data set: replace it with what you claim."""

from harness.reporting.report.judging import number_of

TEXT = "The best model has a higher likelihood than independent columns on every data set."
FROM = ("overview",)  # figures and tables; judge takes the rows of their csv files, in this order
SOURCE = "not published yet"


def judge(overview):
    """The differences that are claimed to be positive, and a sentence that says what was measured; None without them.

    The claim holds where every difference is significantly above zero, and does not hold where one is below.
    """
    rows = overview[overview["metric"] == "-log p"].sort_values("value")
    differences, said = [], []
    for name, found in rows.groupby("dataset"):
        control, others = found[found["method"] == "factorised"], found[found["method"] != "factorised"]
        if len(control) and len(others):
            best = others.iloc[0]
            differences.append(number_of(control.iloc[0]) - number_of(best))
            said.append(f"{best['method']} on {name} by {differences[-1].value:.2f} nats")
    return (differences, ", ".join(said)) if differences else None
