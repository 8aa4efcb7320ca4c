"""Train an autoencoder of any kind, and look at what its code has learned."""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from apps._main import main
from apps._training import (
    TrainingOptions,
    begin,
    card_of_data,
    command,
    compile_model,
    data_name,
    default_epochs,
    deliver,
    described,
    held_out_of,
    open_run,
    plan,
    read,
    save_model,
    train_model,
)

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    from keras_gen.autoencoders import Autoencoder
    from keras_gen.data import Batches, Splits
    from keras_gen.training import Run


@dataclass
class Options(TrainingOptions):
    network: Literal["mlp", "conv", "recurrent"] = "mlp"
    """Encoder and decoder; recurrent reads a picture row by row."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers, from the picture inward; none: linear with `--activation linear`."""
    activation: str = "relu"
    """Of the hidden layers."""
    latent_dim: int = 8
    """Dimensions of the code."""
    code_activation: str = "linear"
    """Of the code; sigmoid for sparse, contractive and hash codes."""
    code_noise: float = 0.0
    """Noise before the code's activation in training; 4 and more make sigmoid codes binary."""
    tied: bool = False
    """The decoder's matrices are the encoder's, transposed."""
    greedy: int = 0
    """Epochs for each pair of layers before all are trained together."""
    corruption: str | None = None
    """What a denoising autoencoder has to undo: gaussian:0.2, masking:0.5, dropout:0.5, salt:0.3,
    blur:1, downsampling:2, jpeg:20; name:least-most; several joined by +."""
    penalty: str | None = None
    """What the code costs: l1:WEIGHT, l2:WEIGHT, kl:TARGET:WEIGHT, contractive:WEIGHT."""
    embedding: Literal["tsne", "umap"] = "tsne"
    """How a code of more than two dimensions is laid out flat; umap needs umap-learn."""


def work(options: Options) -> None:
    import keras

    from keras_gen import plots
    from keras_gen.data import Batches

    options, run = begin("autoencode", options)
    plots.check_embedding(options.embedding)
    splits = read(options)
    keras.utils.set_random_seed(options.seed)
    model = build(options, splits.train.shape)
    model.start_from(splits.train.mean())
    made = partial(Batches, batch_size=options.batch_size, seed=options.seed)
    training, held_out = made(splits.train, training=True), made(splits.test, training=False)
    stages = model.stages() if options.greedy else 0
    epochs = default_epochs(options, len(training))
    options = replace(options, epochs=epochs)
    run = open_run("autoencode", options, run, splits.train)
    greedily = f"{stages} x {options.greedy} epochs layer by layer, then " if stages else ""
    plan(
        {
            "data": described(splits, options),
            "model": f"{options.network} autoencoder, {options.latent_dim}-dimensional code, "
            f"{model.count_params():,} parameters, on {keras.backend.backend()}",
            "training": f"{greedily}{epochs} epochs of {len(training)} steps",
            "writing": str(run.path),
        }
    )
    fit = partial(train_model, model, training, held_out, run)
    for stage in range(stages):
        model.stage = stage
        compile_model(model, options, options.greedy, len(training))
        fit(options.greedy, part=f"stage-{stage + 1}")
    model.stage = None
    compile_model(model, options, epochs, len(training))
    fit(epochs)
    finish(run, model, splits, held_out, options)


def build(options: Options, shape: tuple[int, int, int]) -> "Autoencoder":
    """The untrained model for pictures of `shape`."""
    from keras_gen import corruptions, networks
    from keras_gen.autoencoders import Autoencoder, penalties

    code = {"code_activation": options.code_activation, "code_noise": options.code_noise}
    kinds: dict = {
        "mlp": (networks.mlp_encoder, networks.mlp_decoder, ()),
        "conv": (networks.conv_encoder, networks.conv_decoder, (32, 64)),
        "recurrent": (networks.recurrent_encoder, networks.recurrent_decoder, (100,)),
    }
    make_encoder, make_decoder, default = kinds[options.network]
    inward = options.hidden or default
    activation = {} if options.network == "recurrent" else {"activation": options.activation}
    encoder = make_encoder(shape, options.latent_dim, inward, **activation, **code)
    return Autoencoder(
        encoder,
        "tied" if options.tied else make_decoder(options.latent_dim, shape, inward[::-1], **activation),
        corruption=corruptions.parse(options.corruption) if options.corruption else None,
        penalty=penalties.parse(options.penalty) if options.penalty else None,
        seed=options.seed,
    )


def finish(run: "Run", model: "Autoencoder", splits: "Splits", held_out: "Batches", options: Options) -> None:
    """Pictures, numbers and artefacts of a trained model."""
    from sklearn.decomposition import PCA

    from keras_gen import plots
    from keras_gen.autoencoders import codes_of
    from keras_gen.engine import to_numpy

    test = splits.test
    save_model(run, model)
    print("looking at it", flush=True)
    plots.curves(run.rows(), run.path / "curves.png")
    files = ["curves.png", "reconstructions.png"]

    pca = _pca(PCA, splits, options)
    shown = test.floats(slice(0, 12))
    strips = [shown]
    if model.corruption is not None:
        strips.append(to_numpy(model.corruption.at(shown, 0)))
    strips.append(to_numpy(model(strips[-1])))
    if pca is not None:
        flat = strips[-2].reshape(len(shown), -1)
        strips.append(pca.inverse_transform(pca.transform(flat)).reshape(shown.shape))
    plots.save(plots.strips(strips), run.path / "reconstructions.png")

    chosen = test.select(slice(0, 2000))
    codes = codes_of(model, chosen.floats())
    plots.scatter(
        codes if codes.shape[1] == 2 else plots.embedded(codes, options.embedding, options.seed),
        chosen.labels,
        run.path / "codes.png",
        "code" if codes.shape[1] == 2 else f"code of {codes.shape[1]} dimensions, {options.embedding}",
        chosen.classes,
    )
    files.append("codes.png")
    ends = codes[: 2 * min(8, len(codes) // 2)]
    if len(ends):
        steps = plots.straight_lines(ends[::2], ends[1::2], 12)
        plots.save(plots.grid(to_numpy(model.decode(steps)), 12), run.path / "interpolations.png")
        files.append("interpolations.png")
    filters = plots.filters(model.encoder, model.data_shape)
    if filters is not None:
        plots.save(filters, run.path / "filters.png")
        files.append("filters.png")

    metrics = _measured(model, pca, splits, run, held_out)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    deliver(run, _card(run, splits, options, metrics), files)


def _pca(PCA, splits: "Splits", options: Options):
    """Principal components of as many numbers as the code has, or None where there are not so many."""
    import numpy as np

    most = min(len(splits.train), int(np.prod(splits.train.shape)))
    if options.latent_dim > most:
        return None
    sample = np.random.default_rng(options.seed).permutation(len(splits.train))[:20_000]
    data = splits.train.floats(np.sort(sample)).reshape(len(sample), -1)
    return PCA(options.latent_dim, random_state=options.seed).fit(data)


def _measured(model: "Autoencoder", pca, splits: "Splits", run: "Run", held_out: "Batches") -> dict:
    import numpy as np

    from keras_gen.autoencoders import codes_of
    from keras_gen.engine import to_numpy

    def written(error) -> str:
        return f"{error:.5f} ({-10 * np.log10(error):.2f} dB)"

    errors, by_pca = [], []
    for step in range(len(held_out)):
        images = held_out[step]["image"]
        errors.append(to_numpy(model.reconstruction_error(images)))
        if pca is not None:
            flat = images.reshape(len(images), -1)
            difference = flat - pca.inverse_transform(pca.transform(flat))
            by_pca.append((difference**2).mean(axis=1) / 4)
    error = float(np.concatenate(errors).mean())
    metrics = {"held-out mean squared error, pixels / 255, uncorrupted": written(error)}
    if pca is not None:
        metrics["the same for PCA with as many numbers"] = written(np.concatenate(by_pca).mean())
    metrics |= {k: f"{v:.5f}" for k, v in run.rows()[-1].items() if k.startswith("val_")}
    codes = codes_of(model, splits.test.floats(slice(0, 5000)))
    metrics["mean activity of the code"] = f"{codes.mean():.4f}"
    if codes.min() >= 0 and codes.max() <= 1 and (codes > 0).any():
        metrics["share of the code within 0.1 of 0 or 1"] = f"{(np.abs(codes - 0.5) > 0.4).mean():.3f}"
    if model.code_shape[0] <= 64:
        norm = to_numpy(model.jacobian_norm(splits.test.floats(slice(0, 200)))).mean()
        metrics["mean norm of the code's Jacobian, 200 pictures"] = f"{norm:.4f}"
    return metrics


def _card(run: "Run", splits: "Splits", options: Options, metrics: dict) -> dict:
    return {
        "name": f"autoencoder on {data_name(options)}",
        "data": card_of_data(splits, options, run),
        "metrics": metrics,
        "protocol": f"held-out pictures: {held_out_of(options)}; "
        f"epochs {options.epochs}, seed {options.seed}, backend {run.config['backend']}.",
        "licence": splits.train.licence,
        "command": command("autoencode", options),
        "usage": [
            "codes = model.encode(image=images)         # images: uint8",
            "again = model.decode(code=codes)",
            "near = model.reconstruct(image=images)",
        ],
    }


if __name__ == "__main__":
    main(Options, work, __doc__)
