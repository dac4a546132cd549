"""The catalogue's entries for the binary data sets of github.com/arranger1044/DEBD beyond the eight of Table 3.1.

They are the field's usual benchmark of density estimators (Lowd and Davis, "Learning Markov Network Structure with
Decision Trees", ICDM 2010; Van Haaren and Davis, "Markov Network Structure Learning", AAAI 2012). Nine were seen
whole, so the digests of their files and of their content are known. Of the eleven others only the repository's tree was
seen: git's blob ids, which prove each file right once it is obtained; their sizes are those of the literature, and what
is obtained must have them.
"""

from harness.data.assembly import from_comma_texts
from harness.data.dataset import PARTS
from harness.data.entry import Entry, Route
from harness.data.homes import debd, debd_texts

LICENCE = "none stated by the repository"


def _entry(name: str, columns: int, rows: tuple[int, int, int], route: Route, how_to_get: str) -> Entry:
    return Entry(name, columns, rows, (route,), source="DEBD", licence=LICENCE, how_to_get=how_to_get)


def _whole(
    name: str, columns: int, rows: tuple[int, int, int], *sizes_and_sha256: tuple[int, str], digest: str
) -> Entry:
    how_to_get = (
        f"run `harness datasets --fetch {name}` once on a machine with a network, or set a mirror folder that has "
        f"upstream/arranger1044/DEBD/datasets/{name}/"
    )
    return _entry(name, columns, rows, debd_texts(name, *sizes_and_sha256, digest=digest), how_to_get)


def _blobs(name: str, columns: int, rows: tuple[int, int, int], *blobs: str) -> Entry:
    files = tuple(debd(name, part, None, None, blob) for part, blob in zip(PARTS, blobs, strict=True))
    how_to_get = (
        f"run `harness datasets --fetch {name}` once on a machine with a network, or put {name}.train.data, "
        f"{name}.valid.data and {name}.test.data in upstream/arranger1044/DEBD/datasets/{name}/ of a "
        "mirror folder"
    )
    return _entry(name, columns, rows, Route(from_comma_texts, files), how_to_get)


ENTRIES = (
    _whole(
        "nltcs",
        16,
        (16_181, 2_157, 3_236),
        (517_792, "e547a7aedad1dd2f7177030881ab1b92c7e24ae5464c71a0f1f89daecaf52b30"),
        (69_024, "93bbbf5c6febdc9bc6e5b5bfab636f4dc0685ab2896d24b23dd267794c3bfcf6"),
        (103_552, "f9ffa6b74b27dc03bee3203d157ee31079e80b13be40d0c0093d635c25aed523"),
        digest="610e2878c7115bc4672ac9882a0f02d2ede00f8c0c6615d6913e802849673565",
    ),
    _whole(
        "plants",
        69,
        (17_412, 2_321, 3_482),
        (2_402_856, "1fb1219ff94068d12a563f9e81f8889a1885f41e867884cff608669300c6848f"),
        (320_298, "47834ed318b2d74f48e4b083226ef47fd446d41986012ceae19d230574821b34"),
        (480_516, "95f53c033cd1d86467aec2610dc5bfe014534206c2da4919f73bcab246ab8755"),
        digest="1cd9230c2bdb9490ff4da61fab395d5631bb636807e7bbc029e9d9e40b8cc14e",
    ),
    _whole(
        "baudio",
        100,
        (15_000, 2_000, 3_000),
        (3_000_000, "b1ec73f4aa9d4ce48b465ded865cc3d22b3f68cf6258f9e15fbef8902138add1"),
        (400_000, "7164d8a4943f74953f0e982002d84693fdf483e17f69e7407dc939c5ce5622fe"),
        (600_000, "1474f3206f1f35e099803a0f40b0cd209bdc8d787825095ef6cb23fd87ed0d05"),
        digest="e63fa9ef41564dc0c3fdc3891a3688b07fdb3da0f0823477eb5b3787d15f0c8c",
    ),
    _whole(
        "jester",
        100,
        (9_000, 1_000, 4_116),
        (1_800_000, "dd93578c3359d5b234bb278bf0901c5215d83b910f7d51d7c91951a0a4c244cd"),
        (200_000, "91df833941e189265345898d3f63211560c2456df599f34beee8e95381ee7524"),
        (823_200, "346044fb561cf18f284f7e9d5896178b03048991b6ebb6f7482885fccbc16082"),
        digest="c74737fd4cefc447fb4c6f877e65a9cf92903e4eb8eb7fcd63f164b2fb695721",
    ),
    _whole(
        "bnetflix",
        100,
        (15_000, 2_000, 3_000),
        (3_000_000, "73c87cf0635ec734cc0726a5c644b904ff33e81ea51f1049db0e77b787ebad7c"),
        (400_000, "7f0a3e597c6f305f707f9ecd2b2aa523c576cdb17fdc5d902fc832ebea5163de"),
        (600_000, "af73990782fd2f146d96059855c4f3bbb6a7a7caefc417ff620a3ed1415a2395"),
        digest="ac2d97bceb4d825ee206f0e3cb06b395d1cbeffae32db84a59bfe30bc5c8cc57",
    ),
    _whole(
        "accidents",
        111,
        (12_758, 1_700, 2_551),
        (2_832_276, "a76648cf00772c275b4277b21d858e235e3c6d3c5ef30beeb4958189b6bed21c"),
        (377_400, "fd3a80a0f411f157cf3772a057d26980bb166cb89b10cafb818a53f1ec30d46d"),
        (566_322, "df3f1b6c035bf3e306a7d7127320e479d2546ce14a5d6d3043e6be0925b8b414"),
        digest="194e6f78557ee84155c99e362bce70bf038274b10c8531d06aa4b257b8242ba1",
    ),
    _whole(
        "pumsb_star",
        163,
        (12_262, 1_635, 2_452),
        (3_997_412, "27e610b5f9f507f94ebf8a227f8b96cc59d7eed51e06ee5d2fe8353afbc1524c"),
        (533_010, "6a491d1ea64eb0249dddd168fdddeef88aa21001a933eb7309603b6466187af8"),
        (799_352, "b2da195314ac17f9d8d171743c5f98a28ea9583332a52d34aa228ff2e11aa8e7"),
        digest="301adc6ebe984661b6944a988e8a57a6a9a881c250b3cc286df90d5b0c9e7353",
    ),
    _whole(
        "bbc",
        1058,
        (1_670, 225, 330),
        (3_533_720, "a6f0ba467ebf502ba3b37caa1f20e43ff82664dcd580be92010106cf80fb0db1"),
        (476_100, "f6a37bd58cdb6745725628be19dfd3b9b795082faa8ca771b8f27dbf4a5ff46d"),
        (698_280, "7116fce92a1f3d610cee673a974c8c9895957ee07ce6f086b431ee296aa7734a"),
        digest="372b08340e8acad1024b6d057a35fff6b43e1237140f4ab99215a84e7979cfb1",
    ),
    _whole(
        "moviereview",
        1001,
        (1_600, 150, 250),
        (3_203_200, "195729f0d72e9707abb7a901b57193bd1b1c9108bb261202170eec6c7e5e2ed1"),
        (300_300, "d887c7726485ca46026c3c9ab511174679cd1c96443c5410ab24fb81c8be38e3"),
        (500_500, "9fea48ab7422d4a1c0b5d063311e6fd3104e59c11018276f7a9e909685a856d2"),
        digest="545acfb85a0ee0403218362516c2dc58fe0e11f3503ce4317bf735dbaa7b32c7",
    ),
    _blobs(
        "msnbc",
        17,
        (291_326, 38_843, 58_265),
        "db2f5c53ef25794a0f14180d388538a62cfec39e",
        "c1feb3683cd12e8c589adb71c34639c9af562b36",
        "49fd68acfdb4772356bcba14a6e0a2470d641d7a",
    ),
    _blobs(
        "kdd",
        64,
        (180_092, 19_907, 34_955),
        "09af7e69c90a2e3bcff23f794ecb141f189c4671",
        "177900b0f28fc85c9fabe1369223af846ab36887",
        "087a5804bac832459e4221b0e8663039d1b5ee69",
    ),
    _blobs(
        "tretail",
        135,
        (22_041, 2_938, 4_408),
        "52c82ac6a4c9c9a301bcc461335aac0f14c6d682",
        "82682d4997829b5d991e56770fd6a6f447553d8b",
        "c785a1a267b5708123abd24bbd9792be2a4ba7e1",
    ),
    _blobs(
        "kosarek",
        190,
        (33_375, 4_450, 6_675),
        "cc9c549b93a3636961debfa59f0dc84df93d4c53",
        "a375a72b21c7bb919bce47da1b0537d3d146a186",
        "03b9a4b9629ec560d5a95dfb711a468d3d497fef",
    ),
    _blobs(
        "msweb",
        294,
        (29_441, 3_270, 5_000),
        "939c8391c77e4764c74553b011ba7ced924337de",
        "75598aae35655b504670a3b65c311ec0a8f1a9e9",
        "b7c6804dd2ceba1fbff3308516f4748f5d989698",
    ),
    _blobs(
        "book",
        500,
        (8_700, 1_159, 1_739),
        "7d0e649e4a8952c5454faa29db786d820865ca18",
        "e5a98a673dd4ed0f17fd4bec975a49ca122174b4",
        "90460f56e012e5225467a7459e8e0ba1d34d2679",
    ),
    _blobs(
        "tmovie",
        500,
        (4_524, 1_002, 591),
        "7a356abaa5203208127ec5972cf3792bd8d225b3",
        "6920f039750d26f81132dc4a3a3c83b0f2eba8bb",
        "6b610f57b64eb51c4886bc7e29900d4d0bd45870",
    ),
    _blobs(
        "cwebkb",
        839,
        (2_803, 558, 838),
        "569179f63ac2795dc1b65ab59165c58abedc49c7",
        "38539a369cbf1edcf4be0948c5977e7174a045fd",
        "98f636014c6a37f58243f71684548445df04d787",
    ),
    _blobs(
        "cr52",
        889,
        (6_532, 1_028, 1_540),
        "5a132a4c54dc99a9966d9cf00fea63da5d88fa3d",
        "b35d4b1ab487e32843212bac3abf1a0fcd444a28",
        "4f63c683574db34184e89e8a9b850454a835c5fc",
    ),
    _blobs(
        "c20ng",
        910,
        (11_293, 3_764, 3_764),
        "b5d2937144d0d1340f14c53c807b83f79be21bbd",
        "02fd664e4bbba182a6bf769e25ba7c238307da70",
        "c767f717205a4fe334815161a07e74a107ca9f2c",
    ),
    _blobs(
        "ad",
        1556,
        (2_461, 327, 491),
        "b9dfaba77f2cea10c30a2c3c3d6c80f84d811334",
        "28dfd43ad1234f7b62ad4a560bd918327a6e39bf",
        "1a6ecad267097c75cfb9d9b9d36281bcb0c2a162",
    ),
)
