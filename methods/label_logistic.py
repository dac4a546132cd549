"""Control for semi-supervised models: logistic regression on the pixels of the labelled rows alone."""

from harness.methods.label_mlp import LabelMLP

from harness.ranges import NonNegative, Size


class LabelLogistic(LabelMLP):
    """softmax(W x + b); see ``LabelMLP``."""

    name = "label_logistic"
    title = "logistic regression on the labelled pixels"
    kind = "control"
    source = "Control: what the labels alone can teach"
    small = {"n_classes": 3}

    def __init__(self, n_visible: int, n_classes: Size = 10, weight_decay: NonNegative = 0.0):
        super().__init__(n_visible, 0, n_classes, weight_decay=weight_decay)
