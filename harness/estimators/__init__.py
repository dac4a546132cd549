"""Estimators: everything the tables report about a model, from samples that are seen once and dropped.

Importance weights, partition functions and labels each have their module; biases, Pareto tails, tests of two samples
and the like theirs.
"""

from harness.estimators.importance import (
    Estimates,
    ImportanceSums,
    PrefixCurve,
    exact_log_prob,
    importance_curve,
    importance_estimates,
    log_prob_orders,
)
from harness.estimators.labels import LabelEstimates, joint_label_loss, label_estimates
from harness.estimators.partition import LogZ, LogZ2, log_z, log_z2

__all__ = [
    "Estimates",
    "ImportanceSums",
    "LabelEstimates",
    "LogZ",
    "LogZ2",
    "PrefixCurve",
    "exact_log_prob",
    "importance_curve",
    "importance_estimates",
    "joint_label_loss",
    "label_estimates",
    "log_prob_orders",
    "log_z",
    "log_z2",
]
