"""One small plugin of each kind, as a user or a package would write it; each is about what the one before it makes."""

ANALYSIS = '''
"""How many columns of drawn rows are 1, beside test rows."""

import pandas as pd

from harness.ranges import Size

NEEDS = ("sampling",)


def analyse(subject, rows: Size, every: Size = 1):
    drawn = subject.model.sample(rows, subject.generator()).double().sum(1)[::every]
    counts = {"drawn": drawn, "test": subject.test.x.double().sum(1)}
    return pd.DataFrame([(of, each.mean().item(), each.std().item() / len(each) ** 0.5) for of, each in counts.items()],
                        columns=["rows", "value", "sem"])
'''
FIGURE = '''
"""Columns that are 1 in drawn and in test rows, one point per model."""

import matplotlib.pyplot as plt

TITLE = "Ones of <all> models"
CAPTION = "How many columns are 1 in drawn rows, beside what -log p says."
ANALYSES = ("ones", "metrics")


def data(ones, measured):
    likelihoods = measured[measured["metric"] == "-log p"].rename(columns={"value": "nll"})
    drawn = ones[ones["rows"] == "drawn"]
    return drawn.merge(likelihoods[["dataset", "method", "variant", "nll"]], on=["dataset", "method", "variant"])


def remarks(data):
    return [f"{len(data)} models"]


def draw(data):
    figure, axes = plt.subplots()
    axes.errorbar(data["value"], data["nll"], xerr=data["sem"], linestyle="")
    return figure
'''
TABLE = '''
"""Every model's distance from the best."""

TITLE = "Behind the best"
CAPTION = "Nats behind the best model of a data set"
METRICS = ("-log p",)
DECIMALS = 3
SOURCE = "a note of ours"


def data(measured):
    rows = measured[measured["metric"] == "-log p"]
    best = rows.groupby("dataset")["value"].transform("min")
    rows = rows.assign(behind=rows["value"] - best, behind_sem=rows["sem"])
    return rows[["title", "dataset", "method", "behind", "behind_sem", "n_seeds"]]
'''
CLAIM = '''
"""The control comes last."""

from harness.reporting.report.judging import Number

TEXT = "Every model is better than independent columns."
FROM = ("behind",)
SOURCE = "us"


def judge(behind):
    is_control = behind["method"] == "factorised"
    pairs = behind[is_control].merge(behind[~is_control], on="dataset", suffixes=("_control", "_other"))
    differences = [
        Number(pair.behind_control, pair.behind_sem_control) - Number(pair.behind_other, pair.behind_sem_other)
        for pair in pairs.itertuples()
    ]
    return (differences, f"least {min(each.value for each in differences):.2f} nats") if differences else None
'''
NAMES = {"analyses": "ones", "figures": "ones_by_nll", "tables": "behind", "claims": "control_is_last"}
TEXTS = {"analyses": ANALYSIS, "figures": FIGURE, "tables": TABLE, "claims": CLAIM}


def write(folder):
    """A file of each kind in the folder; their paths by kind."""
    paths = {kind: folder / f"{name}.py" for kind, name in NAMES.items()}
    for kind, path in paths.items():
        path.write_text(TEXTS[kind])
    return paths


def asking(named, on="connect4"):
    """The settings that ask for the four, each a line: by name or by path."""
    named = {kind: str(each) for kind, each in named.items()}
    lists = {kind: [each] for kind, each in named.items() if kind != "analyses"}
    return {**lists, "analyses": {named["analyses"]: {on: {"rows": 50}}}}
