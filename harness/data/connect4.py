"""The connect4 data set rebuilt from the rules of the game: no file is needed.

It holds every legal position after eight plies in which nobody has won and nobody could win with the next move, one
of each pair of mirror images. Which of a pair follows from the order in which the original author's search visits the
columns: from the centre outwards, d c e b f a g; the one met first stays. A board is a pair of 49-bit numbers, one a
player, seven bits a column of which the top one stays empty, so that a shift never runs from one column into the
next.
"""

import functools

import numpy as np

N_COLUMNS, N_ROWS, STRIDE, N_PLIES = 7, 6, 7, 8
WALK = (3, 2, 4, 1, 5, 0, 6)
ALONG = (1, STRIDE - 1, STRIDE, STRIDE + 1)  # vertical, the two diagonals, horizontal
ROWS = 67_557

_CELLS = np.uint64(sum(1 << (STRIDE * column + row) for column in range(N_COLUMNS) for row in range(N_ROWS)))
_BOTTOM = np.uint64(sum(1 << (STRIDE * column) for column in range(N_COLUMNS)))


def _winning_cells(own: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """For each board the free cells, reachable now or not, that would complete four in line; uint64 [boards]."""
    wins = np.zeros_like(own)
    for step in ALONG:
        shifts = [np.uint64(step * i) for i in (1, 2, 3)]
        up = [own << s for s in shifts]
        down = [own >> s for s in shifts]
        wins |= up[0] & up[1] & up[2]
        wins |= down[0] & up[0] & up[1]
        wins |= down[0] & down[1] & up[0]
        wins |= down[0] & down[1] & down[2]
    return wins & _CELLS & ~taken


def _has_four(own: np.ndarray) -> np.ndarray:
    found = np.zeros(len(own), bool)
    for step in ALONG:
        pairs = own & (own >> np.uint64(step))
        found |= (pairs & (pairs >> np.uint64(2 * step))) != 0
    return found


def _mirrored(boards: np.ndarray) -> np.ndarray:
    column = np.uint64((1 << STRIDE) - 1)
    out = np.zeros_like(boards)
    for i in range(N_COLUMNS):
        out |= ((boards >> np.uint64(STRIDE * i)) & column) << np.uint64(STRIDE * (N_COLUMNS - 1 - i))
    return out


def _key(mover: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """A number that tells a position from every other one with as many plies."""
    return mover + taken + _BOTTOM


@functools.cache
def positions() -> np.ndarray:
    """All 67,557 positions in the order of the walk; uint8 [67557, 126], cells a1..a6, b1..., each as x, blank, o."""
    mover, other = np.zeros(1, np.uint64), np.zeros(1, np.uint64)
    # Ply by ply, boards stay sorted by the first sequence of moves that reaches them, which is the order of the walk.
    for _ in range(N_PLIES):
        taken = mover | other
        moves = np.stack([(taken + np.uint64(1 << (STRIDE * c))) & ~taken for c in WALK], axis=1)
        moves &= np.array([((1 << N_ROWS) - 1) << (STRIDE * c) for c in WALK], np.uint64)
        legal = moves != 0
        parent = np.nonzero(legal)[0]
        moved = mover[parent] | moves[legal]
        waiting = other[parent]
        open_ = ~_has_four(moved)
        mover, other = waiting[open_], moved[open_]
        first = np.sort(np.unique(_key(mover, mover | other), return_index=True)[1])
        mover, other = mover[first], other[first]
    taken = mover | other
    reachable = (taken + _BOTTOM) & _CELLS
    quiet = ((_winning_cells(mover, taken) | _winning_cells(other, taken)) & reachable) == 0
    mover, other = mover[quiet], other[quiet]
    key, mirror = _key(mover, mover | other), _key(_mirrored(mover), _mirrored(mover | other))
    place = np.empty(len(key), np.int64)
    order = np.argsort(key)
    place[order] = np.arange(len(key))
    place_of_mirror = order[np.searchsorted(key[order], mirror)]
    kept = np.arange(len(key)) <= place_of_mirror
    x, o = mover[kept], other[kept]  # after eight plies it is x's turn again
    cells = np.array([STRIDE * c + r for c in range(N_COLUMNS) for r in range(N_ROWS)], np.uint64)
    has_x, has_o = ((x[:, None] >> cells) & np.uint64(1)), ((o[:, None] >> cells) & np.uint64(1))
    one_hot = np.stack([has_x, 1 - has_x - has_o, has_o], axis=2)  # [positions, cells, 3]
    return one_hot.reshape(len(x), -1).astype(np.uint8)
