"""The variational autoencoder in apps.generate: how it is built, and what it is shown by."""

from typing import TYPE_CHECKING

from apps._training import compile_model

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    from apps.generate import Options
    from keras_gen.data import Batches, ImageData, Splits
    from keras_gen.metrics import SampleQuality
    from keras_gen.training import Run
    from keras_gen.variational import VAE

LATENT_DIM = 8
OWN = "hidden activation likelihood scale free_bits kl_warmup binarize importance_samples"
"""Options of no other family."""


def pictures_a_step(options: "Options") -> int:
    return options.batch_size


def checked(options: "Options") -> "Options":
    """The options with their defaults for this model."""
    return options


def build(options: "Options", splits: "Splits") -> "VAE":
    """The untrained model, which starts at the data's mean."""
    from keras_gen import networks, variational

    shape, latent_dim = splits.train.shape, options.latent_dim or LATENT_DIM
    likelihood: variational.Bernoulli | variational.Gaussian = variational.Bernoulli()
    if options.likelihood == "gaussian":
        likelihood = variational.Gaussian(options.scale)
    output_shape = (*shape[:2], shape[2] * likelihood.parameters)
    side = min(shape[:2])
    if options.network == "mlp" or (options.network == "auto" and side < 16):
        hidden = options.hidden or (256, 256)
        encoder = networks.mlp_encoder(shape, 2 * latent_dim, hidden, activation=options.activation)
        decoder = networks.mlp_decoder(latent_dim, output_shape, hidden[::-1], activation=options.activation)
    else:
        # halve down to about 8 pixels a side
        stages = max(1, (side // 8).bit_length() - 1)
        hidden = options.hidden or tuple(min(32 * 2**i, 256) for i in range(stages))
        encoder = networks.conv_encoder(shape, 2 * latent_dim, hidden, activation=options.activation)
        decoder = networks.conv_decoder(latent_dim, output_shape, hidden[::-1], activation=options.activation)
    model = variational.VAE(
        encoder,
        decoder,
        likelihood=likelihood,
        beta=options.beta,
        free_bits=options.free_bits,
        kl_warmup=options.kl_warmup,
        seed=options.seed,
    )
    model.start_from(splits.train.mean())
    return model


def kind(model: "VAE") -> str:
    """What the model is, for the plan."""
    return f"{model.latent_dim}-dimensional code"


def compiled(model: "VAE", options: "Options", epochs: int, steps: int) -> None:
    compile_model(model, options, epochs, steps)


def quality_every(options: "Options", epochs: int) -> int:
    return 0


def watchers(run: "Run", training: "Batches", quality: "SampleQuality | None") -> list:
    return []


def usage(model: "VAE") -> list[str]:
    """Lines of Python for the card."""
    return [
        "images = model.sample(n=16, seed=0)        # uint8, the same seed gives the same",
        "codes = model.encode(image=images)",
        "again = model.decode(code=codes)",
        "near = model.reconstruct(image=images)",
    ]


def more_for_card(model: "VAE") -> dict:
    """Entries of the card beside those that all have."""
    return {}


def finished(
    run: "Run", model: "VAE", splits: "Splits", held_out: "Batches", options: "Options"
) -> tuple[dict[str, str], list[str], str]:
    """Pictures and numbers of a trained model: metrics, files, and what the numbers hold for."""
    from keras_gen import plots
    from keras_gen.engine import to_numpy

    originals = held_out[0]["image"][:36]
    plots.save(plots.pairs(originals, to_numpy(model(originals))), run.path / "reconstructions.png")
    plots.save(_manifold(model, splits.test, options), run.path / "manifold.png")
    grey = options.likelihood == "bernoulli" and options.binarize == "none"
    protocol = f"binarize: {options.binarize}; "
    if grey:
        protocol += (
            "grey values under a Bernoulli likelihood: a cross entropy, not comparable with likelihoods of "
            "binarised data; "
        )
    return _bound(model, held_out, options), ["reconstructions.png", "manifold.png"], protocol


def _manifold(model: "VAE", data: "ImageData", options: "Options"):
    """The decoder over the prior's quantiles for a 2-D code, else ways between held-out pictures."""
    import numpy as np

    from keras_gen import plots
    from keras_gen.engine import to_numpy

    if model.latent_dim == 2:
        side = 20
        return plots.grid(to_numpy(model.decode(plots.prior_quantiles(side))), side)
    rows, steps = min(10, len(data) // 2) or 1, 12
    chosen = np.random.default_rng([options.seed, 3]).permutation(len(data))
    codes = to_numpy(model.encode(data.floats(chosen[: 2 * rows])))
    starts, ends = codes[:rows], codes[-rows:]
    return plots.grid(to_numpy(model.decode(plots.interpolations(starts, ends, steps))), steps)


def _bound(model: "VAE", held_out, options: "Options") -> dict[str, str]:
    """The k-sample bound on the held-out pictures, by name and with its protocol."""
    import math

    import numpy as np
    from rich.console import Console
    from rich.progress import track

    k = 100 if options.importance_samples is None else options.importance_samples
    if k < 1:
        return {}
    most = 1000 if options.importance_samples is None else len(held_out.data)
    batches = range(math.ceil(min(most, len(held_out.data)) / held_out.batch_size))
    values = []
    console = Console(stderr=True)
    for step in track(batches, f"bound of {k} samples", console=console, transient=True):
        values.append(model.log_likelihood(held_out[step]["image"], k=k, seed=step))
    bound = np.concatenate(values)[:most]
    error = bound.std(ddof=1) / math.sqrt(len(bound)) if len(bound) > 1 else math.nan
    name = f"log p(x), {k}-sample bound, nats, {len(bound)} held-out pictures"
    return {name: f"{bound.mean():.2f} +- {error:.2f} (standard error over pictures)"}
