"""The scenes as a TFDS dataset: `tfds.load("shapes")` once this module is imported."""

import numpy as np
import tensorflow_datasets as tfds

from keras_gen.data.sources import SHAPES
from keras_gen.shapes.dataset import SPLITS, examples
from keras_gen.shapes.scene import COLOURS, GROUNDS, SIDE, SIZES
from keras_gen.shapes.scene import SHAPES as KINDS

NOVEL = 2_000


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Scenes of one to three things, with captions; `novel` has combinations that `train` never shows."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    pkg_dir_path = None

    def _info(self):
        thing = {
            "shape": tfds.features.ClassLabel(names=KINDS),
            "colour": tfds.features.ClassLabel(names=list(COLOURS)),
            "size": tfds.features.ClassLabel(names=list(SIZES)),
            "x": np.float32,
            "y": np.float32,
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3)),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                    "things": tfds.features.Sequence(thing),
                    "ground": tfds.features.ClassLabel(names=GROUNDS),
                }
            ),
            license="Apache-2.0",
        )

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(split, n)
            for split, n in zip(SPLITS, (*SHAPES, NOVEL), strict=True)
        }

    def _generate_examples(self, split: str, n: int):
        for i, example in enumerate(examples(n, split)):
            things = [
                {"shape": t.shape, "colour": t.colour, "size": t.size, "x": t.x, "y": t.y}
                for t in example.scene.things
            ]
            yield (
                i,
                {
                    "image": example.picture,
                    "captions": list(example.captions),
                    "things": things,
                    "ground": example.scene.ground,
                },
            )
