"""The public homes of data files, and how each one names, cuts and packs them.

"DEBD" is github.com/arranger1044/DEBD, "MADE" github.com/mgermain/MADE, both at a pinned commit.
"""

from harness.data import assembly
from harness.data.dataset import PARTS, Status
from harness.data.entry import OFFICIAL, RawFile, Route

GITHUB = "https://raw.githubusercontent.com"
DEBD = ("arranger1044/DEBD", "850908666388f1b1c766a304b37dae14613f1e51")
MADE = ("mgermain/MADE", "514849eb9451311c02049f9e2d9a17fac589996a")
ARM = ("mingzhang-yin/ARM-gradient", "9b5f74da4e4009c5556e8d7a87c88c8e291c253d")
SYLVESTER = ("riannevdberg/sylvester-flows", "32dde9b7d696fee94f946a338182e542779eecfe")
LAROCHELLE = "http://www.cs.toronto.edu/~larocheh/public/datasets"
MNIST_HOMES = ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist")


def github(
    home: tuple[str, str], path: str, size: int | None, sha256: str | None, git_blob: str | None = None
) -> RawFile:
    repository, commit = home
    url = f"{GITHUB}/{repository}/{commit}/{path}"
    return RawFile(f"upstream/{repository}/{path}", (url,), size, sha256, git_blob)


def debd(name: str, part: str, size: int | None, sha256: str | None, git_blob: str | None = None) -> RawFile:
    return github(DEBD, f"datasets/{name}/{name}.{part}.data", size, sha256, git_blob)


def debd_texts(name: str, *sizes_and_sha256: tuple[int, str], digest: str) -> Route:
    parts = zip(PARTS, sizes_and_sha256, strict=True)
    files = tuple(debd(name, part, size, sha256) for part, (size, sha256) in parts)
    return Route(assembly.from_comma_texts, files, digest=digest)


def made(name: str, size: int, *, digest: str | None, sha256: str | None = None, git_blob: str | None = None) -> Route:
    return Route(assembly.from_made, (github(MADE, f"datasets/{name}.npz", size, sha256, git_blob),), digest=digest)


def bundle(name: str, size: int, sha256: str, *, digest: str, status: Status = OFFICIAL, **more: object) -> Route:
    return Route(
        assembly.from_bundle, (RawFile(f"{name}.npz", (), size, sha256),), status=status, digest=digest, **more
    )


def mnist_labels() -> tuple[RawFile, RawFile]:
    def labels(name: str, size: int, sha256: str) -> RawFile:
        return RawFile(f"upstream/mnist/{name}", tuple(f"{home}/{name}.gz" for home in MNIST_HOMES), size, sha256)

    return (
        labels("train-labels-idx1-ubyte", 60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        labels("t10k-labels-idx1-ubyte", 10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    )


def amat(part: str, size: int, sha256: str) -> RawFile:
    name = f"binarized_mnist_{part}.amat"
    copy = github(SYLVESTER, f"data/MNIST_static/{name}", size, sha256)
    return RawFile(copy.local, (f"{LAROCHELLE}/binarized_mnist/{name}", *copy.urls), size, sha256)
