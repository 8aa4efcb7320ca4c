"""Picture files in, picture files out."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def sources_of(names: tuple[str, ...]) -> list[Path]:
    """The files named, and those in the folders named."""
    from keras_gen.data.folder import SUFFIXES
    from keras_gen.errors import InputError

    found: list[Path] = []
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise InputError(f"Expected a folder with pictures. Received: {path}, which has none.")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"Expected an existing picture or folder. Received: {path}. Check the path.")
    return list(dict.fromkeys(found))


def read_given(sources: list[Path], shape: tuple[int, int, int]) -> "tuple[np.ndarray, list[Path]]":
    """uint8 pictures of that shape and the files they were read from; others are named and left out.

    Raises:
        InputError: The only file is no picture, or none of them is.
    """
    from keras_gen.data.folder import read_pictures
    from keras_gen.errors import InputError

    images, kept, bad = read_pictures(sources, shape)
    for path, reason in bad:
        if len(sources) == 1:
            raise InputError(f"Expected a picture. Received: {path} ({reason}).")
        print(f"skipped: {path} ({reason})")
    if not kept:
        raise InputError(f"Expected pictures. Received: {len(sources)} files, none that can be read.")
    return images, kept


def targets_of(sources: list[Path], where: str | None, suffix: str) -> list[Path]:
    """Where each result goes: the one file or the folder named, or beside the source as NAME-SUFFIX.png."""
    from PIL import Image

    from keras_gen.errors import InputError

    out = None if where is None else Path(where).expanduser()
    if out is None:
        targets = [source.with_name(f"{source.stem}-{suffix}.png") for source in sources]
    elif len(sources) == 1 and out.suffix and not out.is_dir():
        if out.suffix.lower() not in Image.registered_extensions():
            raise InputError(f"Expected a picture to write, such as a .png. Received: {out}.")
        targets = [out]
    else:
        if out.suffix and not out.is_dir():
            raise InputError(f"Expected a folder for {len(sources)} pictures. Received: {out}.")
        targets = [out / f"{source.stem}.png" for source in sources]
    named = Counter(targets)
    targets = [
        target.with_name(f"{source.name}.png") if named[target] > 1 else target
        for source, target in zip(sources, targets, strict=True)
    ]
    again = [target for target, times in Counter(targets).items() if times > 1]
    if again:
        raise InputError(
            f"Expected pictures of different names, for the one folder {again[0].parent}. Received: several "
            f"{again[0].stem}. Do one folder after another, or leave --out away."
        )
    keep(sources, targets)
    return targets


def keep(given: Iterable[Path], targets: Iterable[Path]) -> None:
    """Refuse to write over what was given."""
    from keras_gen.errors import InputError

    over = {path.resolve() for path in given} & {path.resolve() for path in targets}
    if over:
        raise InputError(
            f"Expected to write elsewhere than over the given pictures. Received: {min(over)}. "
            "Name another --out."
        )


def read_mask(path: Path, pictures: list[Path], shape) -> "np.ndarray":
    """1 where to draw anew, (1, height, width, 1)."""
    import numpy as np
    from PIL import Image

    from keras_gen.data.arrays import fit
    from keras_gen.data.folder import read_picture
    from keras_gen.errors import InputError

    try:
        mask = read_picture(path).convert("L")
    except (OSError, ValueError) as error:
        raise InputError(f"Expected a picture as the mask. Received: {path} ({error}).") from None
    for picture in pictures:
        size = read_picture(picture).size  # the right way up, as it is drawn on
        if size != mask.size:
            sizes = ["x".join(map(str, each)) for each in (size, mask.size)]
            raise InputError(
                f"Expected a mask of the picture's size, {sizes[0]} ({picture}). Received: {sizes[1]}."
            )
    # whatever is partly to be drawn anew is; averages, as sharper filters ring across the edge
    white = mask.point(lambda level: 255 * (level > 127))
    levels = np.asarray(fit(white, (shape[1], shape[0]), Image.Resampling.BOX))
    return (levels > 0).astype("float32").reshape(1, *shape[:2], 1)
