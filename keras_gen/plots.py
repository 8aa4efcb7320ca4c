"""Pictures of pictures: grids, reconstructions, manifolds, curves. All take values in [-1, 1]."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from keras_gen.errors import InputError

BORDER = 1
CELL = 56
"""Small pictures are enlarged by a whole factor until a cell is about this wide."""


def _to_levels(images: np.ndarray) -> np.ndarray:
    return np.clip(np.round((np.asarray(images) + 1) * 127.5), 0, 255).astype("uint8")


def picture(image: np.ndarray) -> Image.Image:
    """One image (height, width, 1 | 3), pixel for pixel."""
    levels = _to_levels(image)
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def grid(images: np.ndarray, columns: int) -> Image.Image:
    """Images (n, height, width, 1 | 3) in rows of `columns`, a thin line between them."""
    levels = _to_levels(images)
    n, height, width, channels = levels.shape
    rows = math.ceil(n / columns)
    scale = max(1, round(CELL / max(height, width)))
    # a border of one source pixel, enlarged with the rest, mid grey: it shows on black and white
    sheet = np.full(
        (rows * (height + BORDER) + BORDER, columns * (width + BORDER) + BORDER, channels), 128
    ).astype("uint8")
    for i, one in enumerate(levels):
        y = BORDER + (i // columns) * (height + BORDER)
        x = BORDER + (i % columns) * (width + BORDER)
        sheet[y : y + height, x : x + width] = one
    whole = Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    return whole.resize((whole.width * scale, whole.height * scale), Image.Resampling.NEAREST)


def captioned(images: np.ndarray, texts: Sequence[str], scale: int = 4) -> Image.Image:
    """Images (n, height, width, 1 | 3) enlarged by a whole number, each with its text below."""
    from matplotlib import font_manager
    from PIL import ImageDraw, ImageFont

    size, gap = 12, 8
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
    height, width = images.shape[1] * scale, max(images.shape[2] * scale, 96)
    wrapped = [_wrapped(text, font, width) for text in texts]
    below = (size + 3) * max(len(lines) for lines in wrapped) + gap
    columns = max(1, min(len(images), 800 // (width + gap)))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + below + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (image, lines) in enumerate(zip(images, wrapped, strict=True)):
        left, top = gap + i % columns * (width + gap), gap + i // columns * (height + below + gap)
        drawn = picture(image)
        sheet.paste(drawn.resize((drawn.width * scale, drawn.height * scale), 0), (left, top))
        pen.text((left, top + height + 3), "\n".join(lines), fill="black", font=font, spacing=3)
    return sheet


def _wrapped(text: str, font, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def save(drawn: Image.Image, path: Path) -> None:
    drawn.save(path, optimize=True)


def film(frames: "Sequence[Path | Image.Image]", path: Path, seconds: float = 6.0) -> None:
    """Pictures of one size, or files of them, as a GIF that lasts about so long and rests on the last."""
    pictures = [(f if isinstance(f, Image.Image) else Image.open(f)).convert("P") for f in frames]
    each = [max(20, round(1000 * seconds / len(pictures)))] * (len(pictures) - 1) + [2000]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=each, loop=0, optimize=True)


def pairs(originals: np.ndarray, others: np.ndarray, columns: int = 12) -> Image.Image:
    """Rows of originals, each with the row of what was made of them below it."""
    return strips([originals, others], columns)


def strips(versions: Sequence[np.ndarray], columns: int = 12) -> Image.Image:
    """Several versions of the same images, row below row."""
    total = len(versions[0])
    count = total - total % columns or total
    columns = min(columns, count)
    starts = range(0, count, columns)
    rows = [version[start : start + columns] for start in starts for version in versions]
    return grid(np.concatenate(rows), columns)


def neighbours(queries: np.ndarray, found: np.ndarray, wrong: np.ndarray | None = None) -> Image.Image:
    """A row for each query (n, h, w, c): itself, a gap, and what was found, (n, k, h, w, c).

    Where `wrong` (n, k) the picture is framed in red. A found picture of NaN is left empty.
    """
    n, k = found.shape[:2]
    cells = np.concatenate([queries[:, None], np.full_like(queries[:, None], np.nan), found], axis=1)
    cells = np.nan_to_num(cells, nan=0.0)
    framed = np.zeros((n, k + 2, cells.shape[2] + 2, cells.shape[3] + 2, 3), "float32")
    if wrong is not None:
        framed[:, 2:][wrong] = (1.0, -1.0, -1.0)
    framed[:, :, 1:-1, 1:-1] = cells
    return grid(framed.reshape(-1, *framed.shape[2:]), k + 2)


def filters(encoder, shape: tuple[int, int, int], most: int = 100) -> Image.Image | None:
    """The first layer's kernels as pictures, each stretched to its own range; None if it has none."""
    from keras_gen.engine import to_numpy

    first = next(layer for layer in encoder.layers if layer.weights)
    kernel = to_numpy(first.kernel.value) if hasattr(first, "kernel") else None
    if kernel is None:
        return None
    if kernel.ndim == 2:
        kernel = kernel.reshape(*shape, -1)
    if kernel.shape[2] not in (1, 3):
        return None
    pictures = np.moveaxis(kernel, -1, 0)[:most]
    largest = np.abs(pictures).max(axis=(1, 2, 3), keepdims=True)
    return grid(pictures / np.maximum(largest, 1e-12), math.ceil(math.sqrt(len(pictures))))


def prior_quantiles(side: int) -> np.ndarray:
    """Codes (side * side, 2) on a grid of standard normal quantiles, 1/(2 side) from either end."""
    from scipy.stats import norm

    q = norm.ppf((np.arange(side) + 0.5) / side)
    first, second = np.meshgrid(q, q[::-1])
    return np.stack([first.ravel(), second.ravel()], axis=1).astype("float32")


def interpolations(starts: np.ndarray, ends: np.ndarray, steps: int) -> np.ndarray:
    """Codes (n * steps, d) along the great arcs from each start to its end (White 2016).

    Along a straight line codes come closer to the origin than the prior ever puts them in many
    dimensions. arXiv:1609.04468.
    """
    rows = []
    for a, b in zip(starts, ends, strict=True):
        cosine = np.dot(a, b) / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)
        omega = np.arccos(np.clip(cosine, -1, 1))
        t = np.linspace(0, 1, steps)[:, None]
        if np.sin(omega) < 1e-6:
            rows.append((1 - t) * a + t * b)
        else:
            rows.append((np.sin((1 - t) * omega) * a + np.sin(t * omega) * b) / np.sin(omega))
    return np.concatenate(rows).astype("float32")


def straight_lines(starts: np.ndarray, ends: np.ndarray, steps: int) -> np.ndarray:
    """Codes (n * steps, d) along the straight line from each start to its end.

    An autoencoder's code has no prior, hence no shell to stay on.
    """
    t = np.linspace(0, 1, steps)[None, :, None]
    between = (1 - t) * starts[:, None] + t * ends[:, None]
    return between.reshape(-1, starts.shape[1]).astype("float32")


def check_embedding(method: str) -> None:
    """Raise InputError for a method of `embedded` that is not installed."""
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise InputError(
            "Expected umap-learn for --embedding umap. Received: an environment without it. "
            "Install it: pip install umap-learn, or use tsne."
        )


def embedded(codes: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Codes (n, d) laid out in the plane, (n, 2), so that neighbours stay neighbours.

    `tsne` (van der Maaten & Hinton 2008, scikit-learn) or `umap` (McInnes et al. 2018, umap-learn). Codes
    with nothing to lay out, of one number or all the same, stay as they are.
    """
    check_embedding(method)
    if min(codes.shape) < 2 or len(np.unique(codes, axis=0)) < 2:
        return np.pad(codes[:, :2], ((0, 0), (0, max(0, 2 - codes.shape[1]))))
    if method == "umap":
        from umap import UMAP

        return UMAP(random_state=seed, n_jobs=1).fit_transform(codes)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, max(1.0, (len(codes) - 1) / 4))
    return TSNE(random_state=seed, perplexity=perplexity, init="pca").fit_transform(codes)


def scatter(
    points: np.ndarray,
    labels: np.ndarray | None,
    path: Path,
    title: str,
    classes: Sequence[str] | None = None,
) -> None:
    """Points (n, 2), coloured by label where there are labels."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 5))
    if labels is None:
        ax.scatter(points[:, 0], points[:, 1], s=6, lw=0)
    else:
        for label in np.unique(labels):
            some = points[labels == label]
            name = classes[label] if classes else str(label)
            ax.scatter(some[:, 0], some[:, 1], s=6, lw=0, label=name, color=plt.cm.tab20(label % 20))
        if len(np.unique(labels)) <= 20:
            ax.legend(markerscale=2.5, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set(title=title, xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def curves(rows: Sequence[dict], path: Path) -> None:
    """One panel for each logged term against epochs, training and held-out together."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [k for k in rows[0] if k not in ("epoch", "seconds") and not k.startswith("val_")]
    figure, axes = plt.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False)
    epochs = [row["epoch"] for row in rows]
    for ax, name in zip(axes[0], names, strict=True):
        ax.plot(epochs, [row[name] for row in rows], label="training")
        if f"val_{name}" in rows[0]:
            ax.plot(epochs, [row[f"val_{name}"] for row in rows], label="held out")
        ax.set(title=name, xlabel="epoch")
        ax.grid(alpha=0.3)
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def lines(x: Sequence[float], y: dict[str, list[float]], path: Path, across: str, up: str) -> None:
    """Named lines over the same x."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.5))
    for name, values in y.items():
        ax.plot(x, values, marker="o", label=name)
    ax.set(xlabel=across, ylabel=up)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def confusion(shares: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Shares (classes, classes) of each class, in rows, that were taken for each, in columns."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    n = len(names)
    side = min(12.0, 2.5 + 0.5 * n)
    figure, ax = plt.subplots(figsize=(side, side))
    ax.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)  # the root shows the small ones
    if n <= 20:
        for row, column in zip(*np.nonzero(shares >= 0.0005), strict=True):
            dark = shares[row, column] > 0.3
            text = f"{100 * shares[row, column]:.1f}"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "k")
    ax.set(xticks=range(n), yticks=range(n), xlabel="taken for", ylabel="is", title="%")
    ax.set_xticklabels(names, rotation=90)
    ax.set_yticklabels(names)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def heat(maps: np.ndarray, top: float) -> np.ndarray:
    """Maps (n, height, width) as pictures (n, height, width, 3): black at 0, bright from `top` upwards."""
    from matplotlib import colormaps

    return 2 * colormaps["inferno"](np.clip(maps / max(top, 1e-12), 0, 1))[..., :3] - 1


def histogram(groups: dict[str, np.ndarray], line: float, path: Path, title: str) -> None:
    """Densities of several groups of values over one another, and a line for a threshold.

    The axis ends at the 99.5th percentile of all values; what lies beyond is counted in the last bar.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    every = np.concatenate([*groups.values(), [line]])
    low, high = every.min(), max(line, np.quantile(every, 0.995))
    bins = np.linspace(low, high if high > low else low + 1, 60).tolist()
    figure, ax = plt.subplots(figsize=(7, 3.5))
    for name, values in groups.items():
        label = f"{name}, {len(values):,}"
        ax.hist(np.minimum(values, bins[-1]), bins, density=True, alpha=0.55, label=label)
    ax.axvline(line, color="black", lw=1, ls="--", label="threshold")
    ax.set(title=title, xlabel="score", yticks=[])
    ax.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
