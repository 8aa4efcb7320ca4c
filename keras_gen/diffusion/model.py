"""Diffusion: one class, composed of a schedule, a prediction, a weighting and a network."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_gen import counter
from keras_gen.autoencoders.autoencoder import EVALUATION_SEED
from keras_gen.corruptions import Corruption
from keras_gen.diffusion import predictions, samplers, schedules, weightings
from keras_gen.diffusion.guidance import guide, rescale
from keras_gen.diffusion.likelihood import step_bound
from keras_gen.diffusion.predictions import Prediction
from keras_gen.diffusion.process import Point, posterior, snr
from keras_gen.diffusion.samplers import Estimate, Sampler
from keras_gen.diffusion.schedules import Discrete, Schedule
from keras_gen.diffusion.weightings import Weighting
from keras_gen.engine import GenerativeModel, Update, average_of, compiled, move_average
from keras_gen.errors import InputError
from keras_gen.images import from_uint8, to_uint8
from keras_gen.layers import one_caption

START = -1
"""The place in a series of random numbers that sampling starts from; no step has it."""
EMA_RAMP = 0.05
NOBODY = -1
"""A label that stands for none: the picture of a class-conditional model without its condition."""


@keras.saving.register_keras_serializable("keras_gen.diffusion")
class Diffusion(GenerativeModel):
    """A network that tells the picture in noise, trained at all levels of it, and the samplers that use it.

    The same class is DDPM (`schedule="linear", prediction="epsilon"`), its improvements, EDM
    (`"edm"`, `"edm"`) and flow matching (`"flow"`, `"velocity"`).

    Args:
        network: [images, times (n,)], or [images, times, labels (n,)] with an entry more than `classes`, or
            [images, times, contexts, masks] with `text`, and layouts where it makes them, to outputs of the
            pictures' shape; twice the channels with `learned_variance`. Beside the noisy picture its images
            hold, in this order, the estimate of the step before (`self_condition`) and the source.
        schedule: A `Schedule`, or `linear`, `scaled-linear`, `cosine`, `sigmoid`, `edm`, `flow`.
        prediction: A `Prediction`, or `epsilon`, `x0`, `v`, `velocity`, `edm`.
        weighting: A `Weighting`, or `simple`, `min-snr`, `clipped-snr`, `p2`.
        classes: Number of classes that pictures can be asked for, or None.
        text: Encoder of captions, trained along: tokens (n, length) int32, 0 where there is none, to
            contexts (n, length, d) and masks (n, length), 1 where there is a token, and perhaps layouts
            (n, rows, columns, c), maps that the network sees beside the picture; or None. Labels of
            pictures are then tokens (n, length) or, of several captions each, (n, captions, length), one of
            which is drawn at every visit.
        unlabelled: Share of the examples whose label training hides, each by its own draw (classifier-free
            guidance, Ho & Salimans 2022); half of all `self_condition` estimates are hidden alike.
        source: Makes of each picture what its sampling is given beside noise (its grey values, a small
            version), or None.
        self_condition: The network also sees its own estimate of the step before (Chen et al. 2023).
        learned_variance: The second half of the outputs says the variance of DDPM's step, trained by a
            thousandth of the variational bound (Nichol & Dhariwal 2021, eq. 16).
        ema: Half-life in pictures of the average of weights that makes the samples, at most a twentieth of
            those seen so far (Karras et al. 2022, appendix F.2). 0: no average.
        stratified: Times of a batch are evenly spread, from one draw (Kingma et al. 2021, appendix I.1),
            instead of drawn apart.
        clip: Estimates of the clean picture are clipped to [-1, 1] in sampling.
        sampler: How samples are drawn where nothing is said: a `Sampler`, or `ddim`, `ddpm`, `heun`,
            `dpm-solver++`, `unipc`.
        steps: In so many steps.
        guidance: With so much guidance.
        rescaled: Share of `guidance.rescale`.
        interval: Guidance acts where sigma / alpha lies between these (Kynkaanniemi et al. 2024).
        seed: Of times and noise in training.

    Logs `loss`, and with `learned_variance` the bound's share, `bound`, in bits a dimension.
    """

    data_key = "image"

    def __init__(
        self,
        network: keras.Model,
        schedule: "str | Schedule" = "linear",
        prediction: "str | Prediction" = "epsilon",
        weighting: "str | Weighting" = "simple",
        classes: int | None = None,
        text: keras.Model | None = None,
        unlabelled: float = 0.1,
        source: Corruption | None = None,
        self_condition: bool = False,
        learned_variance: bool = False,
        ema: float = 500_000,
        stratified: bool = True,
        clip: bool = True,
        sampler: "str | Sampler" = "dpm-solver++",
        steps: int = 20,
        guidance: float = 1.0,
        rescaled: float = 0.0,
        interval: Sequence[float] = (0.0, math.inf),
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.network = network
        self.schedule = schedules.get(schedule)
        self.prediction = predictions.get(prediction)
        self.weighting = weightings.get(weighting)
        self.classes = classes
        self.text = text
        self.unlabelled = unlabelled
        self.source = source
        self.self_condition = self_condition
        self.learned_variance = learned_variance
        self.ema = ema
        self.stratified = stratified
        self.clip = clip
        self.sampler = samplers.get(sampler)
        self.steps = steps
        self.guidance = guidance
        self.rescaled = rescaled
        self.interval = tuple(interval)
        self.seed = seed
        outputs = network.output_shape[-1]
        self.data_shape = (*network.output_shape[1:3], outputs // (2 if learned_variance else 1))
        self._check(outputs)
        self.noise = keras.random.SeedGenerator(seed)
        self.seen = self.add_weight(
            (), initializer="zeros", dtype="float32", trainable=False, autocast=False, name="pictures_seen"
        )
        self.average = average_of(network) if ema else None
        self.text_average = average_of(text) if ema and text is not None else None
        self.built = True

    def _check(self, outputs: int) -> None:
        if self.classes is not None and self.text is not None:
            raise InputError("Expected classes or a text encoder. Received: both.")
        channels = self.data_shape[2]
        wanted = channels * (1 + self.self_condition + (self.source is not None))
        inputs = 2 + (self.classes is not None) + (0 if self.text is None else len(self.text.outputs))
        image = self.network.inputs[0].shape
        if len(self.network.inputs) != inputs or image[-1] != wanted or image[1:3] != self.data_shape[:2]:
            kinds = "images, times"
            kinds += " and labels" if self.classes is not None else ""
            if self.text is not None:
                kinds += ", contexts and masks" + (", layouts" if self.text.outputs[2:] else "")
            raise InputError(
                f"Expected a network of {kinds} to images of one size, with {wanted} channels in for "
                f"{channels} out. Received: one of {len(self.network.inputs)} inputs, {tuple(image[1:])} to "
                f"{tuple(self.network.output_shape[1:])}."
            )
        if self.learned_variance and (outputs % 2 or not isinstance(self.schedule, Discrete)):
            raise InputError(
                "Expected, with learned_variance, a discrete schedule and twice the pictures' channels out. "
                f"Received: {type(self.schedule).__name__} and {outputs} channels."
            )
        if self.prediction.needs_signal and self.schedule.starts_in_noise:
            raise InputError(
                "Expected a prediction that means something in pure noise, where the schedule begins "
                f"(flow, zero_terminal_snr): v, x0 or velocity. Received: {self.prediction.name}."
            )
        if not 0 <= self.unlabelled < 1 or self.ema < 0:
            raise InputError(
                "Expected unlabelled of 0 to below 1 and an ema of 0 or more. "
                f"Received: {self.unlabelled} and {self.ema}."
            )
        self.checked_steps(self.steps)

    def checked_steps(self, steps: int) -> int:
        """A number of steps, or an InputError if sampling cannot take as many."""
        longest = self.schedule.longest
        if steps < 1 or (longest is not None and steps > longest):
            most = "" if longest is None else f", {longest} at most"
            raise InputError(f"Expected 1 step or more{most}. Received: {steps}.")
        return steps

    # --- training ------------------------------------------------------------------------------

    def updates(self) -> list[Update]:
        logs = ("bound",) if self.learned_variance else ()
        variables = self.network.trainable_variables
        if self.text is not None:
            variables = variables + self.text.trainable_variables
        return [Update("network", self._loss, variables, logs=logs)]

    @property
    def conditional(self) -> bool:
        """Whether pictures can be asked for: of a class, or by a text."""
        return self.classes is not None or self.text is not None

    def draw(self, n) -> dict:
        """What is random in the loss of n pictures: tests hand in their own."""
        one = keras.random.uniform((1,) if self.stratified else (n,), dtype="float32", seed=self.noise)
        if self.stratified:
            one = (one + ops.arange(n, dtype="float32") / ops.cast(n, "float32")) % 1.0
        return {
            "uniform": one,
            "noise": keras.random.normal((n, *self.data_shape), dtype="float32", seed=self.noise),
            "hide": keras.random.uniform((n,), dtype="float32", seed=self.noise),
            "again": keras.random.uniform((n,), dtype="float32", seed=self.noise),
        }

    def _loss(self, batch, training: bool):
        images = ops.cast(batch[self.data_key], "float32")
        drawn = self.draw(ops.shape(images)[0])
        labels = None
        if self.conditional:
            labels = one_caption(ops.cast(self._labels(batch), "int32"), self.noise)
            hidden = ops.logical_and(drawn["hide"] < self.unlabelled, training)
            hidden = ops.reshape(hidden, (-1, *[1] * (len(labels.shape) - 1)))
            labels = ops.where(hidden, self.nobody, labels)
        source = None if self.source is None else self.source(images, self.noise)
        return self.loss_from(images, drawn, labels, source, training)

    def loss_from(self, images, drawn: dict, labels=None, source=None, training: bool = True):
        """The loss of pictures in [-1, 1] for given times and noise (see `draw`), and its terms."""
        images = ops.cast(images, "float32")
        drawn = {name: ops.convert_to_tensor(value) for name, value in drawn.items()}
        point = self.schedule.at(self.schedule.time_of(drawn["uniform"]))
        now = _spread(point, 4)
        noise = drawn["noise"]
        x = now.alpha * images + now.sigma * noise
        last = ops.zeros_like(images)
        told = self._told(labels, self.text, training)
        if self.self_condition:
            guess = self._estimate(self.network, x, point, last, told, source).clean
            keep = ops.reshape(drawn["again"] < 0.5, (-1, 1, 1, 1))
            last = ops.where(keep, ops.stop_gradient(guess), last)
        output, mix = self._output(self.network, x, point, last, told, source, training)
        target = self.prediction.target(images, noise, now.alpha, now.sigma)
        error = ops.mean((output - target) ** 2, axis=(1, 2, 3))
        gain = self.prediction.gain(point.alpha, point.sigma)
        loss = ops.mean(self.weighting(snr(point.alpha, point.sigma), gain) * error)
        if mix is None:
            return loss, {}
        clean = ops.stop_gradient(self.prediction.clean(output, x, now.alpha, now.sigma))
        then = _spread(self.schedule.at(point.t - 1), 4)
        costs = step_bound(x, images, clean, now, then, self._log_variance(now, then, mix))
        bound = ops.mean(costs) / math.log(2.0)
        return loss + 1e-3 * (self.schedule.longest or 1) * bound, {"bound": bound}

    def after_updates(self, batch) -> None:
        n = ops.cast(ops.shape(batch[self.data_key])[0], "float32")
        self.seen.assign(self.seen + n)
        if self.average is not None:
            half_life = ops.minimum(float(self.ema), EMA_RAMP * self.seen)
            move_average(self.average, self.network, 0.5 ** (n / half_life))
            if self.text is not None:
                move_average(self.text_average, self.text, 0.5 ** (n / half_life))

    def restart_average(self) -> None:
        """The average of weights begins with the weights as they are: for parts that were trained before."""
        if self.average is not None:
            self.average.set_weights(self.network.get_weights())
        if self.text is not None and self.text_average is not None:
            self.text_average.set_weights(self.text.get_weights())

    @property
    def nobody(self) -> int:
        """The label, or the token at every place, of a picture that nothing is said of."""
        return NOBODY if self.text is None else 0

    def _labels(self, batch):
        if "label" not in batch:
            raise InputError("Expected batches with labels, for a conditional model. Received: none.")
        return batch["label"]

    # --- what the network says -----------------------------------------------------------------

    def _told(self, labels, text: keras.Model | None, training: bool = False) -> list:
        """What the network is told of labels beside picture and time; once for all steps of sampling."""
        if labels is None:
            return []
        if text is not None:
            return list(text(labels, training=training))
        known = ops.logical_and(labels >= 0, labels < self.classes)
        return [ops.where(known, labels, self.classes)]

    def _output(self, network, x, point: Point, last, told: list, source, training: bool = False):
        """The network's output for x at a point of scalars or (n,), and its mix of variances or None."""
        n = ops.shape(x)[0]
        at = Point(*(ops.broadcast_to(part, (n,)) for part in point))
        wide = _spread(at, 4)
        seen = [self.prediction.seen(x, wide.alpha, wide.sigma)]
        if self.self_condition:
            seen.append(last)
        if source is not None:
            seen.append(source)
        inputs = [
            ops.concatenate(seen, axis=-1) if len(seen) > 1 else seen[0],
            self.schedule.network_time(at.t),
            *told,
        ]
        output = ops.cast(network(inputs, training=training), "float32")
        if not self.learned_variance:
            return output, None
        output, mix = ops.split(output, 2, axis=-1)
        return output, (mix + 1.0) / 2.0

    def _estimate(self, network, x, point: Point, last, told: list, source, clip: bool = False) -> Estimate:
        output, mix = self._output(network, x, point, last, told, source)
        return self._meant(output, mix, x, point, clip)

    def _meant(self, output, mix, x, point: Point, clip: bool) -> Estimate:
        wide = _spread(point, 4)
        clean = self.prediction.clean(output, x, wide.alpha, wide.sigma)
        return Estimate(ops.clip(clean, -1.0, 1.0) if clip else clean, mix)

    def _estimator(
        self, labels, source, guidance=None, clip: bool | None = None, against=None
    ) -> samplers.Estimator:
        """`estimate(x, t, last)` of the averaged network; `guidance` None asks once, of the labels alone.

        Args:
            against: What guidance leads away from, like the labels; by default none in particular.
        """
        network = self.network if self.average is None else self.average
        text = self.text if self.text_average is None else self.text_average
        clip = self.clip if clip is None else clip
        told = self._told(labels, text)

        def plain(x, t, last):
            return self._estimate(network, x, self.schedule.at(t), last, told, source, clip)

        if guidance is None or labels is None:
            return plain

        other = self._told(ops.full_like(labels, self.nobody) if against is None else against, text)
        twice = [ops.concatenate(pair, axis=0) for pair in zip(told, other, strict=True)]

        def guided(x, t, last):
            point = self.schedule.at(t)
            x2, last2 = ops.concatenate([x, x], axis=0), ops.concatenate([last, last], axis=0)
            source2 = None if source is None else ops.concatenate([source, source], axis=0)
            output, mix = self._output(network, x2, point, last2, twice, source2)
            of_label, of_none = ops.split(output, 2, axis=0)
            low, high = self.interval
            noisy = point.sigma / point.alpha
            acts = ops.logical_and(noisy >= low, noisy <= high)
            pushed = guide(of_label, of_none, ops.where(acts, guidance, 1.0))
            if self.rescaled:
                pushed = rescale(pushed, of_label, self.rescaled)
            mix = None if mix is None else ops.split(mix, 2, axis=0)[0]
            return self._meant(pushed, mix, x, point, clip)

        return guided

    def _log_variance(self, now: Point, then: Point, mix):
        """log of the variance of a step to a neighbour; the last step's small one is that before it."""
        q = posterior(now, then)
        before = posterior(self.schedule.at(1), self.schedule.at(0)).small
        small = ops.where(then.sigma == 0, before, q.small)
        return mix * ops.log(q.large) + (1.0 - mix) * ops.log(ops.maximum(small, 1e-20))

    # --- use -----------------------------------------------------------------------------------

    def call(self, inputs, training: bool = False):
        """The clean pictures that the model sees in noisy ones, [-1, 1].

        A batch may say `time` (n,), and `label` and `source` where the model takes them; without them
        pictures count as noisy as the schedule's middle, of no class, and as their own source.
        """
        batch = inputs if isinstance(inputs, dict) else {self.data_key: inputs}
        x = ops.cast(batch[self.data_key], "float32")
        n = ops.shape(x)[0]
        time = ops.convert_to_tensor(batch.get("time", self.schedule.middle))
        labels = None
        if self.conditional:
            labels = ops.cast(batch.get("label", self._nothing(n)), "int32")
            labels = labels[:, 0] if len(labels.shape) == 3 else labels
        source = batch.get("source", x) if self.source is not None else None
        return self._estimator(labels, source)(x, ops.broadcast_to(time, (n,)), ops.zeros_like(x)).clean

    def sample(
        self,
        n,
        condition=None,
        seed=0,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: "str | Sampler | None" = None,
        source=None,
        watch: Callable[[int, Any, Any], None] | None = None,
        every: int | None = None,
        against=None,
    ):
        """n pictures in [-1, 1]: picture j of a seed is the same on every backend and in every batch.

        Args:
            condition: Of a class-conditional model: labels (n,), or one for all; -1 asks for no class in
                particular. By default all classes in turn. With a text encoder: tokens (n, length), or
                (1, length) for all; by default none.
            seed: One for all, or one for each picture, (n,).
            steps, guidance, sampler: Other than the model's own.
            source: Of a model that takes one: (n, height, width, c).
            watch: Called with the number of steps done and the pictures so far: as they are in x, and as
                the network sees them.
            every: After so many steps; by default a tenth of them.
            against: What guidance leads away from, like `condition`; by default nothing in particular.
        """
        noise = counter.normal((n, *self.data_shape), seed, START)
        return self.sample_from(
            self.schedule.prior_scale * noise,
            condition,
            seed,
            steps,
            guidance,
            sampler,
            source,
            watch=watch,
            every=every,
            against=against,
        )

    def sample_in_graph(self, n, seed, steps, guidance=None, condition=None, source=None):
        """`sample` where all of its arguments are tensors, as in an export; too many steps are cut."""
        x = self.schedule.prior_scale * counter.normal((n, *self.data_shape), seed, START)
        most = self.schedule.longest
        steps = ops.clip(steps, 1, most if most is not None else 2**30)
        given, state = self._given(x, condition, source), samplers.begun(self.sampler, x)
        guided = guidance is not None
        return self._steps_of(0, steps, 0, steps, seed, guidance, given, state, self.sampler, guided)[0]

    def sample_from(
        self,
        x,
        condition=None,
        seed=0,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: "str | Sampler | None" = None,
        source=None,
        known=None,
        mask=None,
        watch=None,
        every: int | None = None,
        first: int = 0,
        against=None,
    ):
        """Pictures from x (n, height, width, c) as it is at the grid's point `first`, noise by default.

        Args:
            known: Pictures of which a part stands: everywhere `mask` (n, height, width, 1) is 1 the result
                is theirs, to the last bit. The rest: see `sample`.
        """
        steps = self.checked_steps(self.steps if steps is None else steps)
        guidance = self.guidance if guidance is None else guidance
        sampler = self.sampler if sampler is None else samplers.get(sampler)
        given = self._given(x, condition, source, known, mask, against)
        advance = lambda state, start, stop: self._advance(  # noqa: E731
            start, stop, first, steps, seed, guidance, *given.values(), *state,
            names=tuple(given), sampler=sampler, guided=guidance != 1.0,
        )  # fmt: skip
        state = samplers.begun(sampler, ops.convert_to_tensor(x))
        if watch is None:
            return advance(state, first, steps)[0]
        watch(first, state[0], state[1])
        done = first
        while done < steps:
            stop = min(steps, done + (every or max(1, round((steps - first) / 10))))
            state, done = advance(state, done, stop), stop
            watch(done, state[0], state[1])
        return state[0]

    def _nothing(self, n):
        """Labels that say nothing of n pictures."""
        return ops.full((n,) if self.text is None else (n, self.text.input_shape[1]), self.nobody, "int32")

    def _given(self, x, condition, source, known=None, mask=None, against=None) -> dict:
        """Tensors that the sampling program takes beside its state."""
        n, given = ops.shape(x)[0], {}
        if self.conditional:
            if condition is None and self.classes is not None:
                condition = ops.arange(n, dtype="int32") % self.classes
            for name, labels in (("labels", condition), ("against", against)):
                if labels is not None:
                    given[name] = ops.zeros_like(self._nothing(n)) + ops.cast(labels, "int32")
            given.setdefault("labels", self._nothing(n))
        elif condition is not None or against is not None:
            raise InputError("This model takes no condition. Received one: leave it out.")
        if self.source is not None:
            if source is None:
                raise InputError("Expected the sources of the pictures to be made. Received: none.")
            given["source"] = ops.cast(source, "float32")
        if (known is None) != (mask is None):
            raise InputError("Expected known pictures and a mask together. Received: one of them.")
        if known is not None:
            given |= {"known": ops.cast(known, "float32"), "mask": ops.cast(mask, "float32")}
        return given

    def _beside(self, images, labels) -> dict:
        """What goes with given pictures: their labels, by default none in particular, and their sources."""
        if self.conditional and labels is None:
            labels = self.nobody
        return self._given(images, labels, None if self.source is None else self.sources(images))

    def _steps_of(self, start, stop, first, steps, seed, guidance, given: dict, state, sampler, guided: bool):
        """Steps `start` to `stop` of `steps`: one loop, whose bounds are arguments."""
        estimate = self._estimator(
            given.get("labels"), given.get("source"), guidance if guided else None, None, given.get("against")
        )
        if "mask" in given:
            estimate = samplers.filled_in(estimate, given["known"], given["mask"])
        shape = (ops.shape(state[0])[0], *self.data_shape)
        return samplers.run(
            sampler,
            estimate,
            tuple(state),
            start,
            stop,
            first,
            lambda i: self.schedule.grid(i, steps),
            lambda i: counter.normal(shape, seed, i),
        )

    @compiled
    def _advance(self, start, stop, first, steps, seed, guidance, *tensors, names, sampler, guided):
        given, state = dict(zip(names, tensors, strict=False)), tensors[len(names) :]
        return self._steps_of(start, stop, first, steps, seed, guidance, given, state, sampler, guided)

    def noised(self, images, i: int, steps: int, seed=0):
        """Pictures as they are at the i-th grid point of `steps`; x of `sample_from`, with `first=i`."""
        images = ops.cast(images, "float32")
        noise = counter.normal((ops.shape(images)[0], *self.data_shape), seed, START)
        if i == 0:  # nothing of the picture, as if sampled
            return self.schedule.prior_scale * noise
        point = self.schedule.grid(i, steps)
        return point.alpha * images + point.sigma * noise

    def encode(self, images, condition=None, steps: int | None = None, refine: int = 3):
        """The noise that the deterministic sampler (`ddim`, in as many steps) makes pictures of.

        Args:
            images: [-1, 1], (n, height, width, c).
            condition: As of `sample`; by default of no class.
            refine: Iterations that each step back takes; 1 is Song et al. 2021.
        """
        steps = self.checked_steps(self.steps if steps is None else steps)
        images = ops.cast(images, "float32")
        given = self._beside(images, condition)
        return self._encode(steps, images, *given.values(), names=tuple(given), refine=refine)

    @compiled
    def _encode(self, steps, images, *tensors, names, refine):
        given = dict(zip(names, tensors, strict=True))
        estimate = self._estimator(given.get("labels"), given.get("source"))
        return samplers.invert(estimate, images, 0, steps, lambda i: self.schedule.grid(i, steps), refine)

    def decode(self, noise, condition=None, steps: int | None = None):
        """Pictures of noise (n, height, width, c), deterministically: the inverse of `encode`."""
        if self.conditional and condition is None:
            condition = self.nobody
        return self.sample_from(noise, condition, steps=steps, guidance=1.0, sampler="ddim")

    def translate(self, sources, seed: int = 0):
        """Pictures in [-1, 1] of a model that takes sources: one draw for each of them."""
        return self.sample(ops.shape(sources)[0], seed=seed, source=sources)

    def sources(self, images):
        """What `sample` takes as `source` for these pictures, [-1, 1]."""
        if self.source is None:
            raise InputError(
                "Expected a model that takes sources. Received: one that makes pictures of noise."
            )
        return self.source.at(images, EVALUATION_SEED, self.noise)

    # --- deployment and configuration ----------------------------------------------------------

    def for_use(self) -> "Diffusion":
        """A copy that draws the same and cannot be trained further: the averaged weights alone."""
        if self.average is None:
            return self
        config = {**self.get_config(), "ema": 0.0}
        copy = type(self).from_config(config)
        copy.network.set_weights(self.average.get_weights())
        if copy.text is not None and self.text_average is not None:
            copy.text.set_weights(self.text_average.get_weights())
        copy.seen.assign(self.seen)
        return copy

    def signatures(self) -> dict:
        """What an export serves; see `VAE.signatures`."""
        image: Any = ((None, *self.data_shape), "uint8", "images, 0 to 255")
        seed: Any = ((), "int32", "same seed, same pictures")
        most = "" if self.schedule.longest is None else f" to {self.schedule.longest}"
        steps = ((), "int32", f"1{most}, {self.steps} by default")
        count = ((), "int32", "how many, 1 or more")
        scale = ((), "float32", f"1: none; {self.guidance:g} by default")
        label: Any = ((None,), "int32", f"classes, 0 to {(self.classes or 1) - 1}; -1: any")

        if self.source is not None:

            def sample_image(image, seed, steps):
                made = self.sample_in_graph(ops.shape(image)[0], seed, steps, source=from_uint8(image))
                return to_uint8(made)

            return {
                "translate": (sample_image, {"image": image, "seed": seed, "steps": steps}, image),
                "source": (lambda image: to_uint8(self.sources(from_uint8(image))), {"image": image}, image),
            }
        inputs = {"n": count, "seed": seed, "steps": steps}
        if not self.conditional:

            def sample_any(n, seed, steps):
                return to_uint8(self.sample_in_graph(n, seed, steps))

            return {"sample": (sample_any, inputs, image)}
        if self.text is not None:
            label = ((None, self.text.input_shape[1]), "int32", "tokens; 0: none")
        inputs |= {"guidance": scale, "label": label}

        def sample(n, seed, steps, guidance, label):
            labels = ops.take(label, ops.arange(n) % ops.shape(label)[0], axis=0)
            return to_uint8(self.sample_in_graph(n, seed, steps, guidance, labels))

        return {"sample": (sample, inputs, image)}

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "network": serialize(self.network),
            "schedule": serialize(self.schedule),
            "prediction": serialize(self.prediction),
            "weighting": serialize(self.weighting),
            "classes": self.classes,
            "text": None if self.text is None else serialize(self.text),
            "unlabelled": self.unlabelled,
            "source": None if self.source is None else serialize(self.source),
            "self_condition": self.self_condition,
            "learned_variance": self.learned_variance,
            "ema": self.ema,
            "stratified": self.stratified,
            "clip": self.clip,
            "sampler": serialize(self.sampler),
            "steps": self.steps,
            "guidance": self.guidance,
            "rescaled": self.rescaled,
            "interval": list(self.interval),
            "seed": self.seed,
        }


def _spread(point: Point, rank: int) -> Point:
    """A point whose parts (n,) multiply pictures."""

    def wide(part):
        return ops.reshape(part, (-1,) + (1,) * (rank - 1)) if len(part.shape) else part

    return Point(*(wide(ops.convert_to_tensor(part)) for part in point))
