"""Adversarial networks in apps.generate: how they are built and trained, and what they are shown by."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apps._training import ADVERSARIAL_BETAS, best_quality, class_counts, compile_adversarial

if TYPE_CHECKING:  # heavy: imported for real once the arguments are parsed
    from apps.generate import Options
    from keras_gen.adversarial import GAN, VAEGAN
    from keras_gen.data import Batches, Splits
    from keras_gen.metrics import SampleQuality
    from keras_gen.training import Run

LATENT_DIM = 100
PRESETS: dict[str, dict[str, Any]] = {
    # Radford et al. 2016
    "gan": {"loss": "non-saturating", "penalty": "none", "critic_steps": 1},
    "cgan": {"loss": "non-saturating", "penalty": "none", "critic_steps": 1},
    # Larsen et al. 2016
    "vae-gan": {"loss": "non-saturating", "penalty": "none", "critic_steps": 1},
    # Gulrajani et al. 2017, algorithm 1
    "wgan-gp": {"loss": "wasserstein", "penalty": "gp:10", "critic_steps": 5},
    # Miyato et al. 2018
    "sngan": {"loss": "hinge", "penalty": "none", "critic_steps": 1},
}
NORMS = {"wgan-gp": "layer", "sngan": "spectral"}
BETAS = {"wgan-gp": (0.0, 0.9), "sngan": (0.0, 0.9)}


OWN = (
    "loss penalty critic_steps gamma filters critic_learning_rate ema label_smoothing random_smoothing "
    "label_flips instance_noise"
)
"""Options of no other family."""


def checked(options: "Options") -> "Options":
    """The options with their defaults for this model."""
    from keras_gen.adversarial import penalties
    from keras_gen.errors import InputError

    given = {name: getattr(options, name) for name in PRESETS[options.model]}
    options = replace(
        options, **{name: PRESETS[options.model][name] for name, value in given.items() if value is None}
    )
    assert options.critic_steps is not None and options.penalty is not None
    rate = options.critic_learning_rate
    if rate is not None and not rate > 0:
        raise InputError(f"Expected a positive critic learning rate. Received: {rate}.")
    penalties.parse(options.penalty)
    if options.model == "vae-gan":
        unused = ("label_smoothing", "label_flips", "instance_noise", "penalty", "critic_steps")
        asked = [name for name in unused if getattr(options, name) not in (0, 1, "none")]
        if asked:
            raise InputError(
                "Expected options of the VAE-GAN. Received: "
                + ", ".join(f"--{name.replace('_', '-')}" for name in asked)
                + ", which are those of plain GANs."
            )
    return options


def pictures_a_step(options: "Options") -> int:
    return options.batch_size * (options.critic_steps or 1)


def _vae_gan(options: "Options", shape: tuple[int, int, int]) -> "VAEGAN":
    """Compared where the discriminator's last convolution ends, as in the paper."""
    import keras

    from keras_gen import networks
    from keras_gen.adversarial import VAEGAN
    from keras_gen.networks.dcgan import stages

    latent_dim = options.latent_dim or LATENT_DIM
    discriminator = networks.dcgan_discriminator(shape, options.filters)
    last = [part.name for part in discriminator.layers if isinstance(part, keras.layers.LeakyReLU)][-1]
    filters = [options.filters * 2**i for i in range(stages(shape))]
    return VAEGAN(
        networks.conv_encoder(shape, 2 * latent_dim, filters),
        networks.dcgan_generator(latent_dim, shape, options.filters),
        discriminator,
        last,
        options.loss or "non-saturating",
        options.beta,
        options.gamma,
        options.seed,
    )


def build(options: "Options", splits: "Splits") -> "GAN | VAEGAN":
    from keras_gen import networks
    from keras_gen.adversarial import GAN, InstanceNoise, LabelNoise, penalties
    from keras_gen.errors import InputError

    shape, norm = splits.train.shape, NORMS.get(options.model, "batch")
    classes = len(class_counts(splits)) if options.model == "cgan" else None
    if len(splits.train) < pictures_a_step(options):
        raise InputError(
            f"Expected {pictures_a_step(options)} training pictures or more, for a step of "
            f"{options.critic_steps} discriminator updates on {options.batch_size} each. "
            f"Received: {len(splits.train)}. Lower --batch-size."
        )
    if options.model == "vae-gan":
        return _vae_gan(options, shape)
    noise = None
    if options.label_smoothing or options.label_flips:
        noise = LabelNoise(options.label_smoothing, random=options.random_smoothing, flip=options.label_flips)
    # nothing depends on the number of steps but the fading of this noise
    instance_noise = None
    if options.instance_noise:
        steps = (options.epochs or 1) * (len(splits.train) // pictures_a_step(options))
        instance_noise = InstanceNoise(options.instance_noise, max(1, steps // 2))
    latent_dim, bias = options.latent_dim or LATENT_DIM, options.loss != "wasserstein"
    if options.network == "residual":
        # without a batch's statistics, and the penalties come without normalisation
        norm = "spectral" if norm in ("batch", "spectral") else "none"
        generator = networks.residual_generator(latent_dim, shape, 2 * options.filters, classes)
        discriminator = networks.residual_discriminator(shape, options.filters, norm, classes, bias)
    else:
        generator = networks.dcgan_generator(latent_dim, shape, options.filters, classes)
        discriminator = networks.dcgan_discriminator(shape, options.filters, norm, classes, bias)
    return GAN(
        generator,
        discriminator,
        options.loss or "non-saturating",
        penalties.parse(options.penalty or "none"),
        options.critic_steps or 1,
        noise,
        instance_noise,
        options.ema,
        classes,
        options.seed,
    )


def kind(model: "GAN | VAEGAN") -> str:
    """What the model is, for the plan."""
    return f"{model.latent_dim}-dimensional code"


def compiled(model: "GAN | VAEGAN", options: "Options", epochs: int, steps: int) -> None:
    """An Adam for each network, with the betas of the papers."""
    betas = BETAS.get(options.model, ADVERSARIAL_BETAS)
    rates = {"discriminator": options.critic_learning_rate}
    compile_adversarial(model, options, epochs, steps, betas, rates)


def quality_every(options: "Options", epochs: int) -> int:
    return max(1, epochs // 10)


def watchers(run: "Run", training: "Batches", quality: "SampleQuality | None") -> list:
    from keras_gen.adversarial.watch import Watch

    return [Watch(training[0], run.path, quality)]


def usage(model: "GAN | VAEGAN") -> list[str]:
    """Lines of Python for the card."""
    draw = "images = model.sample(n=16, seed=0)        # uint8, the same seed gives the same"
    if getattr(model, "classes", None) is None:
        return [
            draw,
            "again = model.decode(code=codes)           # standard normal",
            "score = model.score(image=images)",
        ]
    return [
        draw,
        "ones = model.sample_class(label=[1, 1, 1], seed=0)",
        "again = model.decode(code=codes, label=labels)",
    ]


def more_for_card(model: "GAN | VAEGAN") -> dict:
    """Entries of the card beside those that all have."""
    return {}


def finished(
    run: "Run", model: "GAN | VAEGAN", splits: "Splits", held_out: "Batches", options: "Options"
) -> tuple[dict[str, str], list[str], str]:
    """Pictures and numbers of a trained model: metrics, files, and what the numbers hold for."""
    import numpy as np

    from keras_gen import plots
    from keras_gen.adversarial.gan import codes_of
    from keras_gen.engine import to_numpy

    files = ["walk.png", "watch.csv"]
    rows, steps = 8, 12
    codes = codes_of(2 * rows, model.latent_dim, options.seed)
    path = plots.interpolations(codes[:rows], codes[rows:], steps)
    decode: Any = model.decode  # of some with labels
    labels: tuple = ()
    classes = getattr(model, "classes", None)
    if classes is not None:
        labels = (np.repeat(np.arange(rows) % classes, steps).astype("int32"),)
        each = np.arange(classes, dtype="int32")
        same = codes_of(10, model.latent_dim, options.seed)
        grid = to_numpy(decode(np.repeat(same, classes, axis=0), np.tile(each, 10)))
        plots.save(plots.grid(grid, classes), run.path / "classes.png")
        files.insert(0, "classes.png")
    plots.save(plots.grid(to_numpy(decode(path, *labels)), steps), run.path / "walk.png")
    if hasattr(model, "encode"):
        originals = held_out[0]["image"][:36]
        plots.save(plots.pairs(originals, to_numpy(model(originals))), run.path / "reconstructions.png")
        files.insert(0, "reconstructions.png")
    metrics, measured = best_quality(run)
    protocol = (
        f"loss {options.loss}, penalty {options.penalty}, {options.critic_steps} critic steps; {measured}"
    )
    return metrics, files, protocol
