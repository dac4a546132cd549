"""The vectorisable functions against float64, on dense grids, within the errors that their docstrings derive."""

import numba as nb
import numpy as np
import pytest

from harness.kernels import fastmath, sources_digest

LIMIT = 87.3  # beyond it, exp(-|a|) leaves the normal float32 numbers


def over_array(function):
    """The function as a compiled loop over an array: the vectorised code is what kernels run."""

    @nb.njit(fastmath=fastmath.FAST, error_model="numpy")
    def loop(a, out):
        for j in range(a.shape[0]):
            out[j] = function(a[j])

    def values(a):
        a = np.asarray(a, dtype=np.float32)
        out = np.empty_like(a)
        loop(a, out)
        return out.astype(np.float64)

    return values


exp_neg, sigmoid = over_array(fastmath.exp_neg), over_array(fastmath.sigmoid)
exp, tanh = over_array(fastmath.exp), over_array(fastmath.tanh)


def exact_exp_neg(a):
    return np.exp(-np.abs(np.float64(a)))


def exact_sigmoid(a):
    a = np.float64(a)
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1.0, e) / (1.0 + e)


@pytest.fixture(name="grid", scope="module")
def dense_grid():
    wide, narrow = np.linspace(-LIMIT, LIMIT, 2_000_001), np.linspace(-2.0, 2.0, 2_000_001)
    tiny = np.logspace(-45, 0, 10_001)
    return np.concatenate([wide, narrow, tiny, -tiny]).astype(np.float32)


def test_powers_of_two_are_exact():
    @nb.njit
    def powers(n, out):
        for j in range(n.shape[0]):
            out[j] = fastmath.pow2(n[j])

    n = np.arange(-126, 128, dtype=np.float32)
    out = np.empty_like(n)
    powers(n, out)
    assert (out == np.ldexp(np.float32(1), n.astype(int))).all()


def test_exponential(grid):
    error = np.abs(exp_neg(grid) - exact_exp_neg(grid))
    assert (error < (3e-7 + 8e-8 * np.abs(grid)) * exact_exp_neg(grid)).all()
    assert error.max() < 3e-7


def test_sigmoid(grid):
    error = np.abs(sigmoid(grid) - exact_sigmoid(grid))
    assert (error < (6e-7 + 8e-8 * np.abs(grid)) * exact_sigmoid(grid)).all()
    assert error.max() < 4e-7


def test_growing_exponential(grid):
    exact = np.exp(np.float64(grid))
    assert (np.abs(exp(grid) - exact) < (3e-7 + 8e-8 * np.abs(grid)) * exact).all()


def test_tanh(grid):
    assert np.abs(tanh(grid) - np.tanh(np.float64(grid))).max() < 5e-7


# 44 values, so that vector lengths up to 16 leave a remainder: every value goes through both loops
EXTREMES = np.float32([0.0, -0.0, 1e-8, -1e-8, 88.0, -88.0, 1e4, -1e4, np.inf, -np.inf, 3e38]).repeat(4)


@pytest.mark.parametrize("order", [1, -1])
def test_extremes(order):
    a = EXTREMES[::order].copy()
    assert np.abs(exp_neg(a) - exact_exp_neg(a)).max() < 3e-7
    assert np.abs(sigmoid(a) - exact_sigmoid(a)).max() < 4e-7
    assert np.abs(tanh(a) - np.tanh(np.float64(a))).max() < 5e-7
    assert (exp(a)[a < -88] < 2e-38).all()
    assert (exp(a)[a > 88] > 8e37).all()
    assert np.isfinite(exp(a)).all()
    assert (exp_neg(a) >= 0).all()
    assert (sigmoid(a)[a > 80] == 1).all()
    assert (sigmoid(a)[a < -80] < 2e-38).all()


def test_nan_remains_nan():
    a = np.full(44, np.nan)
    assert np.isnan(exp_neg(a)).all()
    assert np.isnan(sigmoid(a)).all()
    assert np.isnan(exp(a)).all()
    assert np.isnan(tanh(a)).all()


def test_cached_kernels_belong_to_all_sources(tmp_path):
    """A change in any file of the folder, or of its name, gives another cache."""
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("y = 1\n")
    digests = [sources_digest(tmp_path)]
    (tmp_path / "b.py").write_text("y = 2\n")
    digests.append(sources_digest(tmp_path))
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    digests.append(sources_digest(tmp_path))
    assert len(set(digests)) == 3
    assert sources_digest(tmp_path) == digests[-1]
