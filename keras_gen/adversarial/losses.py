"""What a discriminator's scores cost: one term where a picture counts as real, one where as fake.

A loss gives the discriminator's cost of a score in either case, example by example, so that a label may be
soft or wrong (`LabelNoise`): the cost is then t real(d) + (1 - t) fake(d), which for cross entropy and
least squares is what a target of t gives, and means something for the others too.
"""

import keras
from keras import ops

from keras_gen.parts import Part, named


class AdversarialLoss(Part):
    """Base. Scores d are (n,) float32, unbounded."""

    name: str

    def real(self, d):
        """The discriminator's cost of scoring d what counts as real, (n,)."""
        raise NotImplementedError

    def fake(self, d):
        """The discriminator's cost of scoring d what counts as fake, (n,)."""
        raise NotImplementedError

    def generator(self, d):
        """The generator's cost of a score d of what it made, (n,)."""
        raise NotImplementedError

    def discriminator(self, real, fake, real_label=1.0, fake_label=0.0):
        """The mean cost of scores of real and of made pictures; labels are the chance of being real."""
        of_real = real_label * self.real(real) + (1.0 - real_label) * self.fake(real)
        of_fake = fake_label * self.real(fake) + (1.0 - fake_label) * self.fake(fake)
        return ops.mean(of_real) + ops.mean(of_fake)


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class NonSaturating(AdversarialLoss):
    """Cross entropy; the generator maximises log D (Goodfellow et al. 2014, section 3)."""

    name = "non-saturating"

    def real(self, d):
        return ops.softplus(-d)

    def fake(self, d):
        return ops.softplus(d)

    def generator(self, d):
        return ops.softplus(-d)


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class Minimax(NonSaturating):
    """Cross entropy; the generator minimises log(1 - D) (Goodfellow et al. 2014, eq. 1)."""

    name = "minimax"

    def generator(self, d):
        return -ops.softplus(d)


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class LeastSquares(AdversarialLoss):
    """Half the squared distance to 1 and 0 (Mao et al. 2017, eq. 9)."""

    name = "least-squares"

    def real(self, d):
        return 0.5 * (d - 1.0) ** 2

    def fake(self, d):
        return 0.5 * d**2

    def generator(self, d):
        return 0.5 * (d - 1.0) ** 2


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class Hinge(AdversarialLoss):
    """Margins of 1 on either side (Lim & Ye 2017; Miyato et al. 2018, eqs. 16 and 17)."""

    name = "hinge"

    def real(self, d):
        return ops.relu(1.0 - d)

    def fake(self, d):
        return ops.relu(1.0 + d)

    def generator(self, d):
        return -d


@keras.saving.register_keras_serializable("keras_gen.adversarial")
class Wasserstein(AdversarialLoss):
    """The difference of mean scores of a critic that a penalty keeps 1-Lipschitz (Arjovsky et al. 2017)."""

    name = "wasserstein"

    def real(self, d):
        return -d

    def fake(self, d):
        return d

    def generator(self, d):
        return -d


LOSSES = {loss.name: loss for loss in (NonSaturating, Minimax, LeastSquares, Hinge, Wasserstein)}


def get(loss: str | AdversarialLoss) -> AdversarialLoss:
    """A loss, or the one of that name."""
    return named(loss, LOSSES, AdversarialLoss, "a loss")
