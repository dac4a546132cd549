"""The MNIST image that each row of binarized MNIST shows, so that the rows, published without labels, get theirs.

Salakhutdinov & Murray's test rows are MNIST's test images sorted by digit (stably); their train and valid rows are
the 60,000 training images sorted likewise and then permuted by the MATLAB of the day: `rand('state',0);
randperm(60000)`, whose first 50,000 are train. That `rand` is a subtract-with-borrow generator over 32 numbers of 53
bits whose output is scrambled by a shift register (C. Moler, Numerical Computing with MATLAB, 2004, section 9.3);
`randperm` sorts its numbers.
"""

import math

import numpy as np

N_TRAIN, N_VALID = 50_000, 10_000
_WORD, _FRACTION, _LAGS = (1 << 32) - 1, 53, (20, 5)


def _shift_register(j: int) -> int:
    j ^= (j << 13) & _WORD
    j ^= j >> 17
    return j ^ ((j << 5) & _WORD)


def matlab_rand(count: int) -> np.ndarray:
    """The first numbers of MATLAB 5's uniform generator after `rand('state',0)`; float64 [count]."""
    register, memory = 1 << 31, []
    for _ in range(32):
        number = 0
        for _ in range(_FRACTION):
            register = _shift_register(register)
            number = 2 * number + (register >> 19 & 1)
        memory.append(number)
    register, borrow, out = 1 << 31, 0, np.empty(count)
    for i in range(count):
        number = memory[(i + _LAGS[0]) % 32] - memory[(i + _LAGS[1]) % 32] - borrow
        borrow = int(number < 0)
        number += borrow << _FRACTION
        memory[i % 32] = number
        successor = _shift_register(register)
        mask = (successor << 32 & (1 << 52) - 1) ^ register
        register = successor
        # The mask meets the 53 significant bits, whatever the exponent.
        missing = _FRACTION - number.bit_length()
        out[i] = math.ldexp((number << missing) ^ mask, -_FRACTION - missing)
    return out


def row_order(train_digits: np.ndarray, test_digits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row of train, valid and test its position in MNIST's own files, given the digits in their order."""
    by_digit = np.argsort(train_digits, kind="stable")
    permuted = by_digit[np.argsort(matlab_rand(N_TRAIN + N_VALID), kind="stable")]
    return permuted[:N_TRAIN], permuted[N_TRAIN:], np.argsort(test_digits, kind="stable")
