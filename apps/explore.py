"""Walk between codes, move pictures along an attribute, and solve analogies, with a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from apps._main import main

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    import numpy as np

    from keras_gen.data import Splits


@dataclass
class Options:
    run: tyro.conf.Positional[str]
    """Folder of a run of apps.generate or apps.autoencode."""
    attribute: str | None = None
    """A class whose mean code is moved towards, by name or number."""
    instead_of: str | None = None
    """A class whose mean code is moved away from; default: all pictures of other classes."""
    analogy: tuple[str, str, str] | None = None
    """Three picture files: the first is to the second as the third is to what is drawn."""
    rows: int = 8
    """Pictures, or walks, of a sheet."""
    steps: int = 11
    """Pictures in a row."""
    strength: float = 1.5
    """How far pictures are moved, in distances between the two mean codes."""
    n: int = 5000
    """Pictures (drawn ones, for a GAN) that mean codes are taken of."""
    features: str = "auto"
    """What tells the classes of drawn pictures, for a GAN: as --features of apps.evaluate."""
    seed: int = 0
    """Of walks and choices."""
    out: str | None = None
    """Folder to write to; default: RUN/explore."""


def work(options: Options) -> None:
    import numpy as np

    from apps._sources import open_source
    from keras_gen import plots
    from keras_gen.diffusion import Diffusion
    from keras_gen.engine import to_numpy
    from keras_gen.errors import InputError
    from keras_gen.training import Run

    for name, least in (("rows", 1), ("steps", 2), ("n", 2), ("seed", 0)):
        if getattr(options, name) < least:
            raise InputError(f"Expected {name} of {least} or more. Received: {getattr(options, name)}.")
    if options.instead_of is not None and options.attribute is None:
        raise InputError("Expected --attribute beside --instead-of. Received: the latter alone.")
    run = Run.open(options.run, reading=True)
    source = open_source(options.run)
    model = source.model
    if isinstance(model, Diffusion):
        raise InputError(
            f"Expected a model with a code. Received: {options.run}, a {type(model).__name__}, whose code is "
            "noise of the pictures' size. Walk between its pictures with apps.edit --towards."
        )
    codes_are_rows = len(getattr(model, "code_shape", ())) == 1 or hasattr(model, "latent_dim")
    if not hasattr(model, "decode") or not codes_are_rows or getattr(model, "classes", None) is not None:
        raise InputError(
            "Expected a model that decodes codes and is not told a class. "
            f"Received: {options.run}, a {type(model).__name__}."
        )
    if options.analogy is not None and not hasattr(model, "encode"):
        raise InputError(
            "Expected a model with an encoder, for analogies of given pictures. "
            f"Received: {options.run}, a {type(model).__name__}. Use a VAE, a VAE-GAN or an autoencoder."
        )
    out = run.path / "explore" if options.out is None else Path(options.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    space = _Space(options, model, source.data)

    def decoded(codes: "np.ndarray") -> "np.ndarray":
        return np.concatenate([to_numpy(model.decode(codes[i : i + 500])) for i in range(0, len(codes), 500)])

    codes = space.some(2 * options.rows)
    between = plots.interpolations if space.has_prior else plots.straight_lines
    walk = between(codes[: options.rows], codes[options.rows :], options.steps)
    files = {"walk.png": plots.grid(decoded(walk), options.steps)}
    if options.attribute is not None:
        direction, names = space.direction()
        amounts = np.linspace(-options.strength, options.strength, options.steps, dtype="float32")
        moved = codes[: options.rows, None] + amounts[:, None] * direction
        sheet = decoded(moved.reshape(-1, moved.shape[-1]).astype("float32"))
        files["attribute.png"] = plots.grid(sheet, options.steps)
        print(f"attribute.png: from {names[1]} (left) to {names[0]} (right), each row through one picture")
    if options.analogy is not None:
        first, second, third = space.given(options.analogy)
        encoded = to_numpy(model.encode(np.stack([first, second, third])))
        answer = decoded((encoded[2] + encoded[1] - encoded[0])[None])
        files["analogy.png"] = plots.grid(np.stack([first, second, third, answer[0]]), 4)
    for name, drawn in files.items():
        plots.save(drawn, out / name)
    print(f"wrote {', '.join(str(out / name) for name in files)}")


class _Space:
    """Codes of a model: of held-out pictures where it encodes, otherwise of the prior."""

    def __init__(self, options: Options, model: Any, data: dict):
        self.options, self.model, self.data = options, model, data
        self.has_prior = hasattr(model, "sample")
        self._splits: Splits | None = None

    @property
    def splits(self) -> "Splits":
        from keras_gen.data import load

        if self._splits is None:
            self._splits = load(**self.data)
        return self._splits

    def some(self, n: int) -> "np.ndarray":
        """n codes, (n, d)."""
        import numpy as np

        from keras_gen.adversarial.gan import codes_of
        from keras_gen.engine import to_numpy
        from keras_gen.errors import InputError

        if not hasattr(self.model, "encode"):
            return codes_of(n, self.model.latent_dim, self.options.seed)
        test = self.splits.test
        if len(test) < n:
            raise InputError(f"Expected {n} held-out pictures. Received: {len(test)}. Ask for fewer --rows.")
        chosen = np.random.default_rng([self.options.seed, 3]).permutation(len(test))[:n]
        return to_numpy(self.model.encode(test.floats(chosen)))

    def direction(self) -> "tuple[np.ndarray, tuple[str, str]]":
        """From the mean code of one class, or of all others, to that of another; and their names."""
        import numpy as np

        from keras_gen.errors import InputError

        codes, labels, names = self._labelled()
        plus = self._class(self.options.attribute or "", names)
        others = labels != plus
        name = f"not {names[plus]}"
        if self.options.instead_of is not None:
            minus = self._class(self.options.instead_of, names)
            others, name = labels == minus, names[minus]
        if not (labels == plus).any() or not others.any():
            raise InputError(
                f"Expected pictures of {names[plus]} and of {name} among {len(labels)}. Received: none of "
                "one of them. Ask for more with --n."
            )
        means = [codes[chosen].mean(axis=0) for chosen in (labels == plus, others)]
        return np.asarray(means[0] - means[1], "float32"), (names[plus], name)

    def _labelled(self) -> "tuple[np.ndarray, np.ndarray, tuple[str, ...]]":
        """Codes, classes and their names: of training pictures, or of drawn ones by a classifier's word."""
        import numpy as np

        from keras_gen import metrics
        from keras_gen.adversarial.gan import codes_of
        from keras_gen.engine import to_numpy
        from keras_gen.errors import InputError
        from keras_gen.images import to_uint8

        train = self.splits.train
        if hasattr(self.model, "encode"):
            if train.labels is None:
                raise InputError(f"Expected pictures with classes. Received: {train.name}, without.")
            some = np.random.default_rng([self.options.seed, 9]).permutation(len(train))[: self.options.n]
            parts = [
                to_numpy(self.model.encode(train.floats(some[i : i + 500]))) for i in range(0, len(some), 500)
            ]
            names = train.classes or tuple(str(i) for i in range(int(train.labels.max()) + 1))
            return np.concatenate(parts), train.labels[some], names
        features = metrics.load_features(self.options.features, Path(train.name).name)
        codes = codes_of(self.options.n, self.model.latent_dim, self.options.seed + 1)
        starts = range(0, len(codes), 500)
        pictures = [to_numpy(to_uint8(self.model.decode(codes[i : i + 500]))) for i in starts]
        probabilities = features(np.concatenate(pictures)).probabilities
        if probabilities is None:
            raise InputError(
                "Expected --features of a classifier, to tell drawn pictures apart. "
                f"Received: {features.name}. Train one: python -m apps.classify --data {train.name}."
            )
        names = features.classes or train.classes or tuple(str(i) for i in range(probabilities.shape[1]))
        return codes, probabilities.argmax(axis=1), names

    @staticmethod
    def _class(name: str, names: tuple[str, ...]) -> int:
        from keras_gen.errors import InputError

        if name in names:
            return names.index(name)
        if name.isdigit() and int(name) < len(names):
            return int(name)
        raise InputError(f"Expected a class: {', '.join(names)}. Received: {name!r}.")

    def given(self, files: tuple[str, str, str]) -> "list[np.ndarray]":
        """Picture files as the model sees pictures."""
        from keras_gen.data import ImageData
        from keras_gen.data.folder import read_pictures
        from keras_gen.errors import InputError

        paths = [Path(file).expanduser() for file in files]
        for path in paths:
            if not path.is_file():
                raise InputError(f"Expected an existing picture. Received: {path}. Check the path.")
        images, _, bad = read_pictures(paths, self.model.data_shape)
        if bad:
            raise InputError(f"Expected a picture. Received: {bad[0][0]} ({bad[0][1]}).")
        return list(ImageData("given", images).floats())


if __name__ == "__main__":
    main(Options, work, __doc__)
